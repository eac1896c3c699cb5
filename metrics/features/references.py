"""Detector features of real pictures, cached under a hash of the pictures' content, what is seen of them, and the detector."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path
from dnnlib.ownership import named_by_content
from metrics.features.detectors import Detector, detector_id
from metrics.features.extraction import Features, Progress, Want, decoding_threads, extract, read_batches
from metrics.features.moments import Moments
from metrics.pictures.sights import RealView
from torch_utils import distributed

_FORMAT = 2


def reference_features(view: RealView, content_hash: str, detector: Detector, want: Want, *, device: torch.device,
                       batch_size: int, cache_dir: Path | None, progress: Progress) -> Features:
    """Features of all pictures of the view, equal on all ranks; read from `cache_dir` where they are there already."""
    # CPU and GPU features differ in their last bits, and a number must not depend on who filled the cache.
    name = "\n".join((str(_FORMAT), content_hash, view.tag, str(view.count), detector_id(detector), device.type))
    if cache_dir:
        kinds = ("rows",) if want.rows else ("moments", "rows")
        found = (_read(cache_dir, f"{name}\n{kind}", view.count) for kind in kinds) if distributed.is_main() else ()
        cached = distributed.from_main(next((features for features in found if features), None))
        if cached is not None:
            return cached

    def batches(share: range) -> Iterator[torch.Tensor]:
        return read_batches(view.read, share, batch_size=batch_size, num_threads=decoding_threads(), device=device,
                            progress=progress, what=f"real pictures through {detector.name}")

    features = extract(view.count, batches, {"": detector}, {"": want})[""]
    if cache_dir and distributed.is_main():
        key = f"{name}\n{'rows' if want.rows else 'moments'}"
        with atomic_path(_path(cache_dir, key), ours=named_by_content) as temporary:
            np.savez(temporary, key=np.array(key), **arrays_of(features))
    return features


def arrays_of(features: Features, prefix: str = "") -> dict[str, Any]:
    """What there is of the features, by name, for `numpy.savez`."""
    arrays = {} if features.rows is None else {"rows": features.rows}
    if features.moments is not None:
        arrays |= {"mean": features.moments.mean, "covariance": features.moments.covariance}
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def features_of(archive: np.lib.npyio.NpzFile, count: int, prefix: str = "") -> Features:
    """The inverse of `arrays_of`. Raises KeyError or ValueError for an archive that holds neither, or something cut."""
    rows = archive.get(f"{prefix}rows")
    moments = None
    if f"{prefix}mean" in archive:
        moments = Moments(count, archive[f"{prefix}mean"], archive[f"{prefix}covariance"])
        if moments.covariance.shape != (len(moments.mean),) * 2:
            raise ValueError("covariance and mean disagree")
    if rows is None and moments is None:
        raise KeyError(f"{prefix}rows")
    if rows is not None and len(rows) != count:
        raise ValueError(f"{len(rows)} rows where {count} are promised")
    return Features(count, rows, moments)


def _path(cache_dir: Path, key: str) -> Path:
    return Path(cache_dir) / f"reference-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def _read(cache_dir: Path, key: str, count: int) -> Features | None:
    try:
        with library_errors(UserError), np.load(_path(cache_dir, key),
                                                allow_pickle=False) as archive:
            return features_of(archive, count) if str(archive["key"]) == key else None
    except UserError:
        return None  # absent or damaged: computed afresh and replaced
