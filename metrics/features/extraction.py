"""One pass of pictures through detectors, over all ranks: feature vectors, their moments, or both.

Batches only bound the memory. Vectors come in the order of the pictures, and moments are sums, so
neither depends on the batch or on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from metrics.features.detectors import Detector
from metrics.features.moments import Moments, MomentSums, Sums, moments_of, moments_of_sums
from metrics.features.wants import Wants
from metrics.pictures.ranks import shares_over_ranks


@dataclass(frozen=True)
class Features:
    """What a detector sees in `count` pictures.

    `vectors` are [N, D] in the order of the pictures, float32, or uint8 for the detector "pixels".
    `moments` are their mean and covariance. Either may be None if it was not wanted.
    """

    count: int
    vectors: np.ndarray | None = None
    moments: Moments | None = None

    def get_moments(self) -> Moments:
        """The moments, from the vectors if they were not summed."""
        return moments_of(self.get_vectors()) if self.moments is None else self.moments

    def get_vectors(self) -> np.ndarray:
        """The vectors, for a measure whose `wants` names them."""
        assert self.vectors is not None, "`wants` of this measure does not name the vectors"
        return self.vectors


def extract(
    total: int,
    batches: Callable[[range], Iterable[torch.Tensor]],
    detectors: Mapping[str, Detector],
    wants: Mapping[str, Wants],
) -> dict[str, Features]:
    """Features by the name of the detector, equal on all ranks.

    `batches(indices)` yields the pictures of these indices as uint8 [n, 3, H, W]. Vectors stay on
    the device of the detector until the end, so that nothing waits for a copy.
    """

    def mine(share: range) -> dict[str, tuple[np.ndarray | None, Sums | None]]:
        vectors: dict[str, list[torch.Tensor]] = {name: [] for name in detectors}
        sums = {name: MomentSums() for name in detectors}
        for images in batches(share):
            for name, detector in detectors.items():
                features = detector(images)
                if "moments" in wants[name]:
                    sums[name].add(features)
                if "vectors" in wants[name]:
                    vectors[name].append(features)
        return {
            name: (torch.cat(parts).cpu().numpy() if parts else None, sums[name].sums())
            for name, parts in vectors.items()
        }

    shares = shares_over_ranks(total, mine)
    return {
        name: _merge(total, [share[name] for share in shares], wants[name]) for name in detectors
    }


def _merge(
    total: int, shares: list[tuple[np.ndarray | None, Sums | None]], wants: Wants
) -> Features:
    vectors = None
    if "vectors" in wants:
        first = next(part for part, _ in shares if part is not None)
        vectors = np.empty((total, first.shape[1]), first.dtype)
        for rank, (part, _) in enumerate(shares):
            if part is not None:
                vectors[rank :: len(shares)] = part
    moments = moments_of_sums(sums for _, sums in shares) if "moments" in wants else None
    return Features(total, vectors, moments)
