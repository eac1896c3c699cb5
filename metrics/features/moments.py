"""Mean and covariance of features in float64 (ddof 1), summed batch by batch and over ranks.

The sums of the ranks are added in rank order, so any number of ranks gives the same moments up to
the last bits of a double.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch

from dnnlib.errors import UserError
from metrics.arithmetic.pairwise import float64_device


@dataclass(frozen=True)
class Moments:
    """mean [D] and covariance [D, D] (divided by count - 1), float64."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Sums:
    """What a share of the pictures adds, float64.

    `vectors` [D] is the sum of the feature vectors, `products` [D, D] that of their outer products.
    """

    count: int
    vectors: np.ndarray
    products: np.ndarray


class MomentSums:
    """Adds up batches of features [N, D] in float64, on their device if that has float64."""

    def __init__(self) -> None:
        self.count = 0
        # Of the vectors [D] and of their outer products [D, D].
        self._sums: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, features: torch.Tensor) -> None:
        features = features.to(float64_device(features.device)).to(torch.float64)
        if self._sums is None:
            width = features.shape[1]
            self._sums = features.new_zeros(width), features.new_zeros(width, width)
        vectors, products = self._sums
        self.count += len(features)
        vectors += features.sum(0)
        products.addmm_(features.T, features)

    def sums(self) -> Sums | None:
        """None if nothing was added, which happens on a rank without pictures."""
        if self._sums is None:
            return None
        vectors, products = (x.cpu().numpy() for x in self._sums)
        return Sums(self.count, vectors, products)


def moments_of_sums(parts: Iterable[Sums | None]) -> Moments:
    """The moments of all shares together. Raises `UserError` for fewer than two pictures."""
    added = [part for part in parts if part is not None]
    count = sum(part.count for part in added)
    if count < 2:
        raise UserError(f"at least two pictures are needed, got {count}")
    mean = reduce(np.add, (part.vectors for part in added)) / count
    products = reduce(np.add, (part.products for part in added))
    return Moments(count, mean, (products - count * np.outer(mean, mean)) / (count - 1))


def moments_of(features: np.ndarray) -> Moments:
    """The moments of all features [N, D] at once."""
    sums = MomentSums()
    sums.add(torch.from_numpy(np.ascontiguousarray(features)))
    return moments_of_sums([sums.sums()])
