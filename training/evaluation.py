"""Metrics at a snapshot, on the averaged generator in memory and the encoders that are loaded anyway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from metrics.protocols import protocols_named
from metrics.runner import evaluate
from metrics.session import Subject
from networks.interfaces import TextEncoder
from networks.snapshot import Snapshot
from training.config import TrainConfig


def evaluate_snapshot(snapshot: Snapshot, encoder: TextEncoder, config: TrainConfig,
                      device: torch.device) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, record) of every metric the config asks for; a collective call. Never touches a training stream."""
    if not config.metrics:
        return
    subject = Subject(snapshot.generator, encoder, config.text_encoder, config.resolution, snapshot.sha256 or None)
    for record in evaluate(subject, config.data, protocols_named(config.metrics), num=config.metric_num, device=device,
                           cache_dir=Path(config.data).parent / ".cache"):
        yield record["metric"], record
