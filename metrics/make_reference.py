"""`calc_metrics.py ref`: what protocols need of real pictures, computed once and written into one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from datasets.archive import INDEX
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from dnnlib.ownership import refuse_foreign
from metrics.evaluations import PROTOCOLS_VERSION
from metrics.features.detectors import detector_id, load_detector
from metrics.features.extraction import Progress, Want
from metrics.features.reference_file import Entry, reference_fault, write_reference
from metrics.features.references import reference_features
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.sights import real_view
from metrics.pictures.specifications import Protocol, Reference
from metrics.runner import source_problem, untouched_rng
from metrics.session import want_of
from torch_utils.distributed import main_first, on_main
from torch_utils.precision import no_tf32


def make_reference(data: Path, protocols: Sequence[Protocol], dest: Path, *, device: torch.device, batch_size: int,
                   weights: Mapping[str, Path], progress: Progress) -> dict[str, Any]:
    """Write the statistics of `data` (a data set or a plain folder) that these protocols compare with; a summary.

    Call on every rank. Raises `UserError` for protocols without a detector or with larger real pictures.
    """
    wants: dict[tuple[Reference, str], Want] = defaultdict(Want)
    for protocol in protocols:
        if protocol.measure.detector is None or protocol.reference.view != "native":
            raise UserError(f"{protocol.name} needs no statistics of real pictures, or needs larger ones; leave it out")
        for reference in protocol.references:
            wants[reference, protocol.measure.detector] |= want_of(protocol)
    on_main(lambda: refuse_foreign(dest, reference_fault))
    plain = data.is_dir() and not (data / INDEX).is_file()
    entries: list[Entry] = []
    for (reference, name), want in wants.items():
        dataset = None if plain else TextImageDataset(data, split=reference.split)
        pictures = PictureFolder(data) if dataset is None else dataset
        for protocol in protocols:
            if problem := source_problem(protocol, dataset, data, pictures.resolution):
                raise UserError(f"{protocol.name}: {problem}")
        view = real_view(pictures, reference, pictures.resolution[0], 0, f"--data {data}")
        with untouched_rng(device), no_tf32():
            detector = main_first(partial(load_detector, name, device, weights=weights))
            features = reference_features(view, "", detector, want, device=device, batch_size=batch_size, cache_dir=None,
                                          progress=progress)
        entries.append(Entry(detector_id(detector), view.tag, features))
    origin = {"name": pictures.name, "content_hash": pictures.content_hash, "resolution": list(pictures.resolution),
              "source": "" if dataset is None else dataset.info.get("source", ""),
              "versions": {"protocols": PROTOCOLS_VERSION, "torch": torch.__version__}, "device": device.type}
    on_main(lambda: write_reference(dest, entries, origin))
    return origin | {"file": str(dest), "entries": [
        {"detector": entry.detector, "pictures": entry.tag, "count": entry.features.count,
         "rows": entry.features.rows is not None} for entry in entries]}
