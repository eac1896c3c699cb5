"""Features of real pictures, kept in a cache under everything that fixes them.

The key of an entry holds the hash of the pictures' content, what is seen of them, the detector with
its weights, and the kind of device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.packed_files import refuse_bombs
from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path
from dnnlib.ownership import named_by_content
from metrics.features.detectors import Detector, detector_id
from metrics.features.extraction import Features, extract
from metrics.features.moments import Moments
from metrics.features.wants import Wants
from metrics.pictures.reading import Compute, read_batches
from metrics.pictures.sights import RealSight
from torch_utils import distributed

_FORMAT = 2
# Files of format 2 call the feature vectors "rows", in the key and as the name of the array.
_VECTORS = "rows"


def reference_features(
    sight: RealSight,
    content_hash: str,
    detector: Detector,
    wants: Wants,
    compute: Compute,
    cache_dir: Path | None,
) -> Features:
    """Features of all pictures of the sight, equal on all ranks.

    They are read from `cache_dir` if they are there, and written to it if not. Without a folder
    nothing is kept.
    """
    # Features of CPUs and GPUs differ in their last bits, and a number must not depend on the
    # device that filled the cache.
    parts = (_FORMAT, content_hash, sight.tag, sight.count, detector_id(detector))
    name = "\n".join([*map(str, parts), compute.device.type])
    kinds = (_VECTORS,) if "vectors" in wants else ("moments", _VECTORS)
    if cache_dir:
        cached = None
        if distributed.is_main():
            candidates = (_read(cache_dir, f"{name}\n{kind}", sight.count) for kind in kinds)
            cached = next((features for features in candidates if features), None)
        cached = distributed.from_main(cached)
        if cached is not None:
            return cached

    def batches(share: range) -> Iterator[torch.Tensor]:
        return read_batches(sight.read, share, compute, f"real pictures through {detector.name}")

    features = extract(sight.count, batches, {"": detector}, {"": wants})[""]
    if cache_dir and distributed.is_main():
        key = f"{name}\n{kinds[0]}"
        with atomic_path(_path(cache_dir, key), ours=named_by_content) as temporary:
            np.savez(temporary, key=np.array(key), **arrays_of(features))
    return features


def arrays_of(features: Features, prefix: str = "") -> dict[str, Any]:
    """The arrays of the features by name, for `numpy.savez`."""
    arrays = {} if features.vectors is None else {_VECTORS: features.vectors}
    if features.moments is not None:
        arrays |= {"mean": features.moments.mean, "covariance": features.moments.covariance}
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def features_of(archive: np.lib.npyio.NpzFile, count: int, prefix: str = "") -> Features:
    """The inverse of `arrays_of`.

    Raises KeyError for an archive without features, and ValueError for one that is cut.
    """
    vectors = archive.get(f"{prefix}{_VECTORS}")
    moments = None
    if f"{prefix}mean" in archive:
        moments = Moments(count, archive[f"{prefix}mean"], archive[f"{prefix}covariance"])
        if moments.covariance.shape != (len(moments.mean),) * 2:
            raise ValueError("covariance and mean disagree")
    if vectors is None and moments is None:
        raise KeyError(f"{prefix}{_VECTORS}")
    if vectors is not None and len(vectors) != count:
        raise ValueError(f"{len(vectors)} feature vectors where {count} are promised")
    return Features(count, vectors, moments)


def _path(cache_dir: Path, key: str) -> Path:
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return Path(cache_dir) / f"reference-{digest}.npz"


def _read(cache_dir: Path, key: str, count: int) -> Features | None:
    """The entry of this key; None if it is absent or damaged, and will be written anew."""
    try:
        with (
            library_errors(UserError),
            np.load(_path(cache_dir, key), allow_pickle=False) as archive,
        ):
            refuse_bombs(archive.zip)
            return features_of(archive, count) if str(archive["key"]) == key else None
    except UserError:
        return None
