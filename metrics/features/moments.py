"""Mean and covariance of features in float64, streamed batch by batch and summed over ranks; ddof = 1.

Ranks add up in rank order, so that any number of them gives the same moments to the last bits of a double.
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
    """What a share of the pictures adds: count, sum of rows [D], sum of outer products [D, D], float64."""

    count: int
    rows: np.ndarray
    products: np.ndarray


class MomentSums:
    """Adds feature batches [N, D] up, in float64, where they are (on the CPU for devices without float64)."""

    def __init__(self) -> None:
        self.count = 0
        # Of rows [D] and of their outer products [D, D].
        self._sums: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, features: torch.Tensor) -> None:
        features = features.to(float64_device(features.device)).to(torch.float64)
        if self._sums is None:
            width = features.shape[1]
            self._sums = features.new_zeros(width), features.new_zeros(width, width)
        rows, products = self._sums
        self.count += len(features)
        rows += features.sum(0)
        products.addmm_(features.T, features)

    def sums(self) -> Sums | None:
        """None when nothing was added, as happens on a rank without pictures."""
        if self._sums is None:
            return None
        rows, products = (x.cpu().numpy() for x in self._sums)
        return Sums(self.count, rows, products)


def moments_of_sums(parts: Iterable[Sums | None]) -> Moments:
    """The moments of all shares together; at least two rows are needed."""
    added = [part for part in parts if part is not None]
    count = sum(part.count for part in added)
    if count < 2:
        raise UserError(f"at least two rows are needed, one a picture, got {count}")
    mean = reduce(np.add, (part.rows for part in added)) / count
    products = reduce(np.add, (part.products for part in added))
    return Moments(count, mean, (products - count * np.outer(mean, mean)) / (count - 1))


def moments_of(features: np.ndarray) -> Moments:
    """Of all rows at once: features [N, D]."""
    sums = MomentSums()
    sums.add(torch.from_numpy(np.ascontiguousarray(features)))
    return moments_of_sums([sums.sums()])
