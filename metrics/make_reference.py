"""`calc_metrics.py ref`: what evaluations need of real pictures, computed once and written down."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dnnlib.errors import UserError
from dnnlib.files import check_target
from metrics.evaluations import PROTOCOLS_VERSION
from metrics.features.detectors import detector_id, load_detector
from metrics.features.reference_file import Entry, reference_fault, write_reference
from metrics.features.references import reference_features
from metrics.features.wants import Wants
from metrics.measures.base import Evaluation
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.reading import Compute
from metrics.pictures.sights import real_sight
from metrics.pictures.sources import open_pictures
from metrics.pictures.specifications import Reference
from metrics.runner import source_problem, untouched_rng
from torch_utils.distributed import main_first, on_main
from torch_utils.precision import no_tf32


def make_reference(
    data: Path,
    evaluations: Sequence[Evaluation],
    dest: Path,
    compute: Compute,
    weights: Mapping[str, Path],
) -> dict[str, Any]:
    """Write the statistics of `data` that these evaluations compare with, and return a summary.

    `data` is a data set or a plain folder. `weights` are local files of detectors by name. Call it
    on every rank. Raises `UserError` for evaluations without a detector or with larger real
    pictures, and for a `dest` that cannot be written.
    """
    on_main(lambda: check_target(dest, reference_fault))
    entries: list[Entry] = []
    for (reference, name), wants in _wanted(evaluations).items():
        pictures = open_pictures(data, reference.split)
        dataset = None if isinstance(pictures, PictureFolder) else pictures
        for evaluation in evaluations:
            if problem := source_problem(evaluation, dataset, data, pictures.resolution):
                raise UserError(f"{evaluation.name}: {problem}")
        sight = real_sight(pictures, reference, pictures.resolution[0], 0, f"--data {data}")
        with untouched_rng(compute.device), no_tf32():
            detector = main_first(partial(load_detector, name, compute.device, weights=weights))
            features = reference_features(sight, "", detector, wants, compute, None)
        entries.append(Entry(detector_id(detector), sight.tag, features))
    origin = {
        "name": pictures.name,
        "content_hash": pictures.content_hash,
        "resolution": list(pictures.resolution),
        "source": "" if dataset is None else dataset.info.get("source", ""),
        "versions": {"protocols": PROTOCOLS_VERSION, "torch": torch.__version__},
        "device": compute.device.type,
    }
    on_main(lambda: write_reference(dest, entries, origin))
    summaries = [
        {
            "detector": entry.detector,
            "pictures": entry.tag,
            "count": entry.features.count,
            "rows": entry.features.vectors is not None,
        }
        for entry in entries
    ]
    return origin | {"file": str(dest), "entries": summaries}


def _wanted(evaluations: Sequence[Evaluation]) -> dict[tuple[Reference, str], Wants]:
    """What is needed of each reference by each detector."""
    wanted: dict[tuple[Reference, str], Wants] = defaultdict(frozenset)
    for evaluation in evaluations:
        measure = evaluation.measure
        if measure.detector is None or evaluation.reference.sight != "native":
            raise UserError(
                f"{evaluation.name} needs no statistics of real pictures, or needs larger ones; "
                "leave it out"
            )
        for reference in evaluation.references:
            wanted[reference, measure.detector] |= measure.wants
    return wanted
