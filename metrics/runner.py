"""From a generator, a data set and protocols to result records; used by calc_metrics.py and by the training loop.

Deterministic, independent of batch size and number of ranks up to float rounding, and without a trace in any global
random state. Under torchrun every rank calls `evaluate` alike and every rank gets the records.
"""

from __future__ import annotations

import contextlib
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from datasets.text_image import TextImageDataset
from dnnlib.config_codec import to_dict
from dnnlib.errors import UserError
from dnnlib.files import sha256_of
from metrics.evaluations import PROTOCOLS_VERSION, lacking, overrides_of
from metrics.features.detectors import DualDetector
from metrics.features.extraction import Progress
from metrics.pictures.specifications import Protocol
from metrics.pictures.subjects import FolderSubject, Subject
from metrics.scorers import score
from metrics.session import OnCut, Session, Sources
from networks.coordinates import View
from networks.interfaces import ImageTextEncoder, ViewError
from networks.snapshot import Snapshot
from torch_utils.precision import no_tf32

T = TypeVar("T")


def load_subject(path: str | Path, device: torch.device) -> Subject:
    """A snapshot (or the newest one of a run folder) with its text encoder, on `device`. Raises `UserError`."""
    snapshot = Snapshot.from_pretrained(path)
    with untouched_rng(device):
        encoder = snapshot.load_encoder(device)
    generator = snapshot.generator.to(device).eval()
    return Subject(generator, encoder, snapshot.text_encoder, snapshot.resolution, snapshot.sha256,
                   trained_with=snapshot.encoder_id)


def evaluate(
    subject: Subject | FolderSubject, data: Sources | str | Path, protocols: Sequence[Protocol], *,
    num: int | None = None, seed: int | None = None, truncation: float | None = None,
    device: torch.device | str = "cpu", batch_size: int = 32, cache_dir: str | Path | None = None,
    encoders: Mapping[str, ImageTextEncoder] | None = None, progress: Progress | None = None,
    on_refusal: Callable[[Protocol, UserError], None] | None = None, on_cut: OnCut | None = None,
    nearest_sheet: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """One JSON-ready record a protocol, in order, each yielded when it is known.

    data: the data set, or `Sources` with more than that. num, seed, truncation override the protocols' own; the record
    then says so under `overrides`. batch_size is per rank. cache_dir keeps features of real pictures (None = no cache).
    encoders: loaded dual encoders by spec, so that they are not loaded again. A network that cannot make a view, or makes
    pictures that are not finite, gets value None and a `note`. Raises `UserError` for what does not fit and for missing
    files, its protocol first; with `on_refusal` that is called instead, and the other protocols go on.
    `on_cut` hears of captions beyond an encoder's limit. nearest_sheet: a PNG that `nearest_train*`
    writes: the pictures that are nearest to training pictures, each beside that one.
    """
    device = torch.device(device)
    sources = data if isinstance(data, Sources) else Sources(data=Path(data))
    if isinstance(subject, FolderSubject):  # these are settled: they made the pictures
        seed = subject.folder.made_with.get("seed", seed)
        truncation = subject.folder.made_with.get("truncation", truncation)
    rows = [row.with_overrides(num=num, seed=seed, truncation=truncation) for row in protocols]
    session = Session(subject, sources, device=device, batch_size=batch_size,
                      cache_dir=Path(cache_dir) if cache_dir else None, encoders=encoders or {},
                      progress=progress or (lambda what, done, total: None), on_cut=on_cut,
                      nearest_sheet=nearest_sheet)

    def attempt(action: Callable[[Session, Protocol], T], protocol: Protocol) -> T | None:
        # Between two records the caller may do as it likes, so both guards close before each yield.
        try:
            with untouched_rng(device), no_tf32(), _eval_mode(subject):
                return action(session, protocol)
        except UserError as error:
            if on_refusal is None:
                raise UserError(f"{protocol.name}: {error}") from error
            on_refusal(protocol, error)
            return None

    # What is missing is told before the first picture is made.
    for protocol in [protocol for protocol in rows if attempt(_prepare, protocol)]:
        record = attempt(_record, protocol)
        if record is not None:
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
def _eval_mode(subject: Subject | FolderSubject) -> Iterator[None]:
    if isinstance(subject, FolderSubject):
        yield
        return
    training = subject.generator.training
    subject.generator.eval()
    try:
        yield
    finally:
        subject.generator.train(training)


def _prepare(session: Session, protocol: Protocol) -> bool:
    """Everything that can be refused without making a picture; True."""
    _check_data(session, protocol)
    if protocol.measure.detector is not None:
        session.detector(protocol.measure.detector)
    session.expect(protocol)
    return True


def _record(session: Session, protocol: Protocol) -> dict[str, Any]:
    started = time.monotonic()
    try:
        scores = score(session, protocol)
    except (ViewError, FloatingPointError) as error:
        scores = {"value": None, "note": str(error)}
    pictures = protocol.pictures
    return {
        "metric": protocol.name,
        **scores,
        **_detector_fields(session, protocol),
        "num_generated": pictures.num_images,
        **_drawn_fields(session, protocol),
        "split": pictures.split,
        "captions": pictures.captions,
        "seed": pictures.seed,
        "view": to_dict(View.square(session.subject.resolution)),
        "overrides": overrides_of(protocol),
        "protocol": to_dict(protocol),
        **session.subject.identity(),
        **_data_fields(session, protocol),
        "versions": {"protocols": PROTOCOLS_VERSION, "torch": torch.__version__, "numpy": np.__version__,
                     "python": platform.python_version()},
        "device": session.device.type,
        "seconds": round(time.monotonic() - started, 3),
    }


def _check_data(session: Session, protocol: Protocol) -> None:
    side = session.subject.resolution
    if protocol.needs_captions and isinstance(session.subject, Subject):
        dataset = session.dataset(protocol.pictures.split)
        if lack := lacking(protocol, dataset.splits, dataset.has_captions):
            raise UserError(f"--data {session.sources.data} has no {lack}")
    named = protocol.data is not None and session.sources.data is not None
    if problem := source_problem(protocol, session.dataset(protocol.pictures.split) if named else None, session.sources.data, (side, side)):
        raise UserError(problem)


def source_problem(protocol: Protocol, dataset: TextImageDataset | None, path: Path | None, size: tuple[int, int]) -> str | None:
    """Why these pictures are not those the protocol names: it is not reported on another data set or size. None: they are."""
    if protocol.resolution is not None and size != (protocol.resolution,) * 2:
        return (f"defined at {protocol.resolution}x{protocol.resolution}, these pictures have {size[0]}x{size[1]}; "
                "fid10k, kid10k, ... take any data set")
    source = "" if dataset is None else str(dataset.info.get("source", ""))
    if protocol.data is not None and dataset is not None and not source.startswith(protocol.data):
        return (f"defined on {protocol.data}, but {path} says it is {source!r}; import the official files with dataset_tool.py "
                "coco or cub; fid10k, kid10k, ... take any data set")
    return None


def _data_fields(session: Session, protocol: Protocol) -> dict[str, Any]:
    """Which files the numbers hang on. `data_checked`: whether the data set is known to be the protocol's own."""
    fields: dict[str, Any] = {"dataset": None, "data_checked": protocol.data is None or session.sources.data is not None}
    if session.sources.data is not None:
        dataset = session.dataset(protocol.pictures.split)
        fields["dataset"] = {"name": dataset.name, "content_hash": dataset.content_hash, "num_items": len(dataset)}
    native = protocol.reference.view == "native"
    for name, path, used in (("reference_file", session.sources.reference, native),
                             ("data_large", session.sources.large, not native)):
        if path is not None:
            fields[name] = {"name": path.name}
            if path.is_file():
                fields[name]["sha256"] = sha256_of(path)
            elif used:
                fields[name]["content_hash"] = session.reals(protocol.reference)[0].content_hash
    return fields


def _drawn_fields(session: Session, protocol: Protocol) -> dict[str, Any]:
    """Where only a part is looked at: which files of a folder, windows of which real pictures."""
    fields: dict[str, Any] = {}
    if isinstance(session.subject, FolderSubject):
        fields["drawn"] = session.subject.drawn(protocol.pictures)
    if protocol.reference.view == "patch":
        of, num = len(session.reals(protocol.reference)[0]), protocol.pictures.num_images
        fields["drawn_real"] = {"pictures": min(num, of), "of": of, "seed": 0 if num % of else None}
    return fields


def _detector_fields(session: Session, protocol: Protocol) -> dict[str, Any]:
    """`teacher` is True where the scorer is the encoder that the generator was trained with.

    Then it flatters. None: it is not known how the pictures were made.
    """
    if protocol.measure.detector is None:
        return {"detector": None, "resize": None, "teacher": False}
    detector = session.detector(protocol.measure.detector)
    teacher: bool | None = False
    if isinstance(detector, DualDetector):
        teacher = detector.encoder_id == session.subject.encoder_id
        if isinstance(session.subject, FolderSubject) and not session.subject.folder.origin:
            teacher = None
    return {"detector": {"name": detector.name, "weights_sha256": detector.weights_sha256},
            "resize": detector.resize, "teacher": teacher}
