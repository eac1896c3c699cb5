"""Detector features of all real pictures of a split, cached under a hash of the data's content and the detector."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import torch

from dnnlib.files import atomic_path
from metrics.detectors import Detector, detector_id
from metrics.ranks import over_ranks
from torch_utils import distributed

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) as pictures pass."""

_FORMAT = 1


class RealPictures(Interface):
    """The part of `TextImageDataset` that references need."""

    content_hash: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int): ...


def reference_features(dataset: RealPictures, split: str, detector: Detector, *, device: torch.device, batch_size: int,
                       cache_dir: Path | None, progress: Progress) -> np.ndarray:
    """float32 [n, D] in dataset order, equal on all ranks; read from `cache_dir` where they are there already."""
    # CPU and GPU features differ in their last bits, and a number must not depend on who filled the cache.
    key = "\n".join((str(_FORMAT), dataset.content_hash, split, str(len(dataset)), detector_id(detector), device.type))
    path = cache_dir and Path(cache_dir) / f"reference-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    cached = distributed.from_main(_read(path, key, len(dataset)) if path and distributed.is_main() else None)
    if cached is not None:
        return cached
    features = _compute(dataset, detector, batch_size, progress)
    if path and distributed.is_main():
        with atomic_path(path) as temporary:
            np.savez(temporary, features=features, key=np.array(key))
    return features


def _compute(dataset: RealPictures, detector: Detector, batch_size: int, progress: Progress) -> np.ndarray:
    def rows_of(share: range) -> list[np.ndarray]:
        rows: list[np.ndarray] = []
        for start in range(0, len(share), batch_size):
            images = torch.stack([dataset[i].image for i in share[start:start + batch_size]])
            rows.extend(detector(images).numpy())
            progress(f"real pictures through {detector.name}", len(rows), len(share))
        return rows

    return np.stack(over_ranks(len(dataset), rows_of))


def _read(path: Path, key: str, num_rows: int) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["key"]) == key and len(archive["features"]) == num_rows:
                return archive["features"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # absent or damaged: computed afresh and replaced
    return None
