"""Metrics during training, computed on the averaged generator in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metrics.evaluations import evaluations_named
from metrics.pictures.generator_subject import GeneratorSubject
from metrics.pictures.sources import Sources
from metrics.runner import evaluate
from training.trainer import Trainer


def evaluate_ema(
    trainer: Trainer, metrics: Sequence[str], cache_dir: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compute metrics and yield (name, record) of each.

    The text encoder of the trainer is used. This is a collective call. It draws nothing from the
    random streams of training.
    """
    if not metrics:
        return
    config = trainer.config
    subject = GeneratorSubject(
        trainer.ema.model, trainer.encoder, config.text_encoder, config.resolution
    )
    sources = Sources(
        data=Path(config.data), labels=config.labels, framed=bool(config.patches.side)
    )
    for record in evaluate(
        subject,
        sources,
        evaluations_named(metrics),
        num=config.metric_num,
        device=trainer.device,
        cache_dir=cache_dir,
    ):
        yield record["metric"], record
