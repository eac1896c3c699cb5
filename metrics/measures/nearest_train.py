"""Are training pictures copied? Distances in features to the nearest training picture.

What is near is said by the test pictures, which no generator saw: one in a hundred of them is
nearer to a training picture than the threshold. More generated ones than that hint at copies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from metrics.arithmetic.pairwise import blocks, real_and_fake

PERCENTILE = 1


@dataclass(frozen=True)
class Nearest:
    """distance: float64 [N], to the nearest training picture; index: int64 [N], which one it is."""

    distance: np.ndarray
    index: np.ndarray


def nearest(train: np.ndarray, rows: np.ndarray, device: torch.device | str = "cpu") -> Nearest:
    """Of each of rows [N, d] among train [M, d], by Euclidean distance in float64."""
    near, points = real_and_fake(train, rows, 1, device)
    centre = near.mean(0)  # distances come from products, and a common offset would cost digits
    near, points = near - centre, points - centre
    norms = near.square().sum(1)
    found = [(block.square().sum(1)[:, None] + norms - 2 * block @ near.T).min(1)
             for block in blocks(points)]
    distance = torch.cat([part.values for part in found]).clamp_min(0).sqrt()
    index = torch.cat([part.indices for part in found])
    return Nearest(distance.cpu().numpy(), index.cpu().numpy())


def threshold(of_test: Nearest) -> float:
    """The distance below which one in a hundred test pictures lies (linear between two)."""
    return float(np.percentile(of_test.distance, PERCENTILE))
