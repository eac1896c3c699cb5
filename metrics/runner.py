"""From a subject, a data set and evaluations to result records.

calc_metrics.py and the training loop call it. Results are deterministic. Up to the rounding of
floats they do not depend on the batch size and the number of ranks. Every global random state is
left as it was. Under torchrun every rank calls `evaluate` alike and gets all records.
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
from dnnlib.errors import UserError
from dnnlib.files import sha256_of
from dnnlib.names import printable
from metrics.evaluations import PROTOCOLS_VERSION, lacking, overrides_of
from metrics.features.detectors import DualDetector, detector_record
from metrics.measures.base import Evaluation
from metrics.pictures.generator_subject import GeneratorSubject
from metrics.pictures.reading import Compute, Progress, silent
from metrics.pictures.sources import Sources
from metrics.pictures.subject import Subject
from metrics.session import OnCut, Session
from networks.coordinates import View
from networks.interfaces import ImageTextEncoder, ViewError
from networks.snapshot import Snapshot
from torch_utils.precision import no_tf32

T = TypeVar("T")


def load_subject(
    path: str | Path,
    device: torch.device,
    size: int | None = None,
    samples: int | None = None,
) -> GeneratorSubject:
    """A snapshot, or the newest one of a run folder, with its text encoder, on `device`.

    size: side of its pictures in pixels; None = the resolution of its training. samples: points a
    side of a pixel; None = those of the network. Raises `UserError` for a path without a snapshot,
    and for a generator that cannot draw at `size` or with `samples`.
    """
    snapshot = Snapshot.from_pretrained(path)
    snapshot.generator.use_samples(samples)
    size = size or snapshot.resolution
    if size != snapshot.resolution and not snapshot.generator.config.any_view:
        raise UserError(
            f"--size {size}: {path} is a network of {snapshot.generator.config.kind}, which draws "
            f"pictures of {snapshot.resolution} x {snapshot.resolution} only; leave --size out"
        )
    with untouched_rng(device):
        encoder = snapshot.load_encoder(device)
    return GeneratorSubject(
        snapshot.generator.to(device).eval(),
        encoder,
        snapshot.text_encoder,
        size,
        snapshot.sha256,
        loss_encoder_id=snapshot.encoder_id,
    )


def evaluate(
    subject: Subject,
    data: Sources | str | Path,
    evaluations: Sequence[Evaluation],
    *,
    num: int | None = None,
    seed: int | None = None,
    truncation: float | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    cache_dir: str | Path | None = None,
    encoders: Mapping[str, ImageTextEncoder] | None = None,
    progress: Progress = silent,
    on_refusal: Callable[[Evaluation, UserError], None] | None = None,
    on_cut: OnCut | None = None,
    nearest_sheet: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """One JSON-ready record of each evaluation, in order, each yielded when it is known.

    - data: the data set, or `Sources` with more than that.
    - num, seed, truncation: they replace those of the table; the record names them (`overrides`).
    - batch_size: per rank.
    - cache_dir: where features of real pictures are kept; None for no cache.
    - encoders: loaded dual encoders by spec, which are not loaded again.
    - on_refusal: called instead of raising, and the other evaluations go on.
    - on_cut: called with captions beyond the limit of an encoder.
    - nearest_sheet: the PNG that `nearest_train*` writes.

    A network that cannot make a view, or makes pictures that are not finite, gets value None and a
    `note`. Raises `UserError` for files that are missing and for pictures that do not fit.
    """
    compute = Compute(torch.device(device), batch_size, progress)
    seed, truncation = subject.made_with(seed, truncation)
    asked = [one.with_overrides(num=num, seed=seed, truncation=truncation) for one in evaluations]
    session = Session(
        subject,
        data if isinstance(data, Sources) else Sources(data=Path(data)),
        compute,
        cache_dir=Path(cache_dir) / f"version-{PROTOCOLS_VERSION}" if cache_dir else None,
        encoders=encoders,
        on_cut=on_cut,
        nearest_sheet=nearest_sheet,
    )

    def attempt(action: Callable[[Session, Evaluation], T], evaluation: Evaluation) -> T | None:
        # Between two records the caller may do as it likes, so all guards close before a yield.
        try:
            with untouched_rng(compute.device), no_tf32(), subject.evaluating():
                return action(session, evaluation)
        except UserError as error:
            if on_refusal is None:
                raise UserError(f"{evaluation.name}: {error}") from error
            on_refusal(evaluation, error)
            return None

    # What is missing is reported before the first picture is made.
    for evaluation in [evaluation for evaluation in asked if attempt(_prepare, evaluation)]:
        record = attempt(_record, evaluation)
        if record is not None:
            yield record


@contextlib.contextmanager
def untouched_rng(device: torch.device) -> Iterator[None]:
    """Restores the global random states of Python, numpy and torch.

    Libraries draw from them when they build a network.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _prepare(session: Session, evaluation: Evaluation) -> bool:
    """Refuses what can be refused before a picture is made; True if nothing is."""
    _check_data(session, evaluation)
    if evaluation.measure.detector is not None:
        session.detector(evaluation.measure.detector)
    session.expect(evaluation)
    return True


def _record(session: Session, evaluation: Evaluation) -> dict[str, Any]:
    started = time.monotonic()
    try:
        scores = evaluation.measure.score(session, evaluation)
    except (ViewError, FloatingPointError) as error:
        scores = {"value": None, "note": str(error)}
    pictures = evaluation.pictures
    return {
        "metric": evaluation.name,
        **scores,
        **_detector_fields(session, evaluation),
        "num_generated": pictures.num_images,
        **_drawn_fields(session, evaluation),
        "split": pictures.split,
        "captions": pictures.captions,
        "seed": pictures.seed,
        "view": View.square(session.subject.resolution).record(),
        "overrides": overrides_of(evaluation),
        "protocol": evaluation.record(),
        **session.subject.identity(),
        **_data_fields(session, evaluation),
        "versions": {
            "protocols": PROTOCOLS_VERSION,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": session.device.type,
        "seconds": round(time.monotonic() - started, 3),
    }


def _check_data(session: Session, evaluation: Evaluation) -> None:
    side = session.subject.resolution
    if evaluation.measure.needs_captions and session.subject.takes_prompts_from_data:
        dataset = session.dataset(evaluation.pictures.split)
        if lack := lacking(evaluation, dataset.splits, dataset.has_captions):
            raise UserError(f"--data {session.sources.data} has no {lack}")
    dataset = None
    if evaluation.data is not None and session.sources.data is not None:
        dataset = session.dataset(evaluation.pictures.split)
    if problem := source_problem(evaluation, dataset, session.sources.data, (side, side)):
        raise UserError(problem)


def source_problem(
    evaluation: Evaluation,
    dataset: TextImageDataset | None,
    path: Path | None,
    size: tuple[int, int],
) -> str | None:
    """Why the evaluation is not defined on these pictures; None if it is.

    dataset: the data set in `path`, None if it is not known. size: the width and height in pixels.
    """
    side = evaluation.resolution
    if side is not None and size != (side, side):
        return (
            f"defined at {side}x{side}, these pictures have {size[0]}x{size[1]}; "
            "fid10k, kid10k, ... take any data set"
        )
    source = "" if dataset is None else str(dataset.info.get("source", ""))
    if (
        evaluation.data is not None
        and dataset is not None
        and not source.startswith(evaluation.data)
    ):
        return (
            f"defined on {evaluation.data}, but {path} says it is {source!r}; import the official "
            "files with dataset_tool.py coco or cub; fid10k, kid10k, ... take any data set"
        )
    return None


def _data_fields(session: Session, evaluation: Evaluation) -> dict[str, Any]:
    """The files on which the numbers depend.

    `data_checked` says whether the real pictures are known to be those of the evaluation.
    """
    sources = session.sources
    checked = evaluation.data is None or _reals_are_checked(session, evaluation)
    fields: dict[str, Any] = {"dataset": None, "data_checked": checked}
    if sources.data is not None:
        dataset = session.dataset(evaluation.pictures.split)
        fields["dataset"] = {
            "name": dataset.name,
            "content_hash": dataset.content_hash,
            "num_items": len(dataset),
        }
    native = evaluation.reference.sight == "native"
    for name, path, is_used in (
        ("reference_file", sources.reference, native),
        ("data_large", sources.large, not native),
    ):
        if path is not None:
            fields[name] = {"name": printable(path.name)}
            if path.is_file():
                fields[name]["sha256"] = sha256_of(path)
            elif is_used:
                pictures = session.real_pictures(evaluation.reference)
                fields[name]["content_hash"] = pictures.content_hash
    return fields


def _reals_are_checked(session: Session, evaluation: Evaluation) -> bool:
    """Whether the real pictures are known to come from the data set of the evaluation."""
    if session.sources.reference is None:
        return True  # `_check_data` refuses other data
    if session.sources.statistics is not None:
        return False
    pictures = session.real_pictures(evaluation.reference)
    return isinstance(pictures, TextImageDataset) and not source_problem(
        evaluation, pictures, session.sources.reference, pictures.resolution
    )


def _drawn_fields(session: Session, evaluation: Evaluation) -> dict[str, Any]:
    """Which part of a folder, or of the large real pictures, was looked at."""
    fields = session.subject.drawn(evaluation.pictures)
    if evaluation.reference.sight == "patch":
        of = len(session.real_pictures(evaluation.reference))
        num = evaluation.pictures.num_images
        seed = 0 if num % of else None
        fields["drawn_real"] = {"pictures": min(num, of), "of": of, "seed": seed}
    return fields


def _detector_fields(session: Session, evaluation: Evaluation) -> dict[str, Any]:
    """`teacher` is True if the generator was trained with the encoder that scores it.

    Such a score flatters. None: it is not known how the pictures were made.
    """
    if evaluation.measure.detector is None:
        return {"detector": None, "resize": None, "teacher": False}
    detector = session.detector(evaluation.measure.detector)
    teacher: bool | None = False
    if isinstance(detector, DualDetector):
        teacher = session.subject.trained_with(detector.encoder_id)
    return {
        "detector": detector_record(detector),
        "resize": detector.resize,
        "teacher": teacher,
    }
