"""From a generator, a data set and protocols to result records; used by calc_metrics.py and by the training loop.

Deterministic, independent of batch size and number of ranks up to float rounding, and without a trace in any global
random state. Under torchrun every rank calls `evaluate` alike and every rank gets the records.
"""

from __future__ import annotations

import contextlib
import platform
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib.config_codec import to_dict
from metrics.detectors import DualDetector
from metrics.protocols import PROTOCOLS_VERSION, Protocol, overrides_of
from metrics.reference import Progress
from metrics.scorers import score
from metrics.session import Session, Subject
from networks.coordinates import View
from networks.interfaces import ImageTextEncoder, ViewError
from networks.snapshot import Snapshot


def load_subject(path: str | Path, device: torch.device) -> Subject:
    """A snapshot (or the newest one of a run folder) with its text encoder, on `device`. Raises `UserError`."""
    snapshot = Snapshot.from_pretrained(path)
    with untouched_rng(device):
        encoder = snapshot.load_encoder(device)
    generator = snapshot.generator.to(device).eval()
    return Subject(generator, encoder, snapshot.text_encoder, snapshot.resolution, snapshot.sha256)


def evaluate(
    subject: Subject, dataset_path: str | Path, protocols: Sequence[Protocol], *,
    num: int | None = None, seed: int | None = None, truncation: float | None = None,
    device: torch.device | str = "cpu", batch_size: int = 32, cache_dir: str | Path | None = None,
    encoders: Mapping[str, ImageTextEncoder] | None = None, progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """One JSON-ready record a protocol, in order, each yielded when it is known.

    num, seed, truncation override the protocols' own; the record then says so under `overrides`. batch_size is per
    rank. cache_dir keeps features of real pictures (None = no cache). encoders: loaded dual encoders by spec, so that
    they are not loaded again. A network that cannot make a view, or makes pictures that are not finite, gets
    value None and a `note`. Raises `UserError` for data that does not fit.
    """
    device = torch.device(device)
    rows = [row.with_overrides(num=num, seed=seed, truncation=truncation) for row in protocols]
    session = Session(subject, dataset_path, rows, device=device, batch_size=batch_size,
                      cache_dir=Path(cache_dir) if cache_dir else None, encoders=encoders or {},
                      progress=progress or (lambda what, done, total: None))
    for protocol in rows:
        # Between two records the caller may do as it likes, so both guards close before each yield.
        with untouched_rng(device), _eval_mode(subject.generator):
            record = _record(session, protocol)
        yield record


@contextlib.contextmanager
def untouched_rng(device: torch.device) -> Iterator[None]:
    """Restores Python's, numpy's and torch's global random states: libraries draw when they build a network."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextlib.contextmanager
def _eval_mode(module: torch.nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def _record(session: Session, protocol: Protocol) -> dict[str, Any]:
    started = time.monotonic()
    try:
        scores = score(session, protocol)
    except (ViewError, FloatingPointError) as error:
        scores = {"value": None, "note": str(error)}
    subject, pictures = session.subject, protocol.pictures
    dataset = session.dataset(pictures.split)
    return {
        "metric": protocol.name,
        **scores,
        **_detector_fields(session, protocol),
        "num_generated": pictures.num_images,
        "split": pictures.split,
        "captions": pictures.captions,
        "seed": pictures.seed,
        "view": to_dict(View.square(subject.resolution)),
        "overrides": overrides_of(protocol),
        "protocol": to_dict(protocol),
        "snapshot_sha256": subject.sha256,
        "text_encoder": subject.encoder.id,
        "dataset": {"name": dataset.name, "content_hash": dataset.content_hash, "num_items": len(dataset)},
        "versions": {"protocols": PROTOCOLS_VERSION, "torch": torch.__version__, "numpy": np.__version__,
                     "python": platform.python_version()},
        "device": session.device.type,
        "seconds": round(time.monotonic() - started, 3),
    }


def _detector_fields(session: Session, protocol: Protocol) -> dict[str, Any]:
    """`teacher` is True where the scorer is the encoder that the generator was trained with: then it flatters."""
    if protocol.measure.detector is None:
        return {"detector": None, "resize": None, "teacher": False}
    detector = session.detector(protocol.measure.detector)
    teacher = isinstance(detector, DualDetector) and detector.encoder_id == session.subject.encoder.id
    return {"detector": {"name": detector.name, "weights_sha256": detector.weights_sha256},
            "resize": detector.resize, "teacher": teacher}
