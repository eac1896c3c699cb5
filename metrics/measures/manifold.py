"""Do the generated pictures lie where the real ones are, and everywhere there? Balls to the k-th neighbour, in float64.

Precision and recall: Kynkaanniemi et al. 2019. Density and coverage: Naeem et al. 2020, eq. 6 and 7.
"""

from __future__ import annotations

import numpy as np
import torch

from metrics.arithmetic.pairwise import blocks, real_and_fake


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3, device: torch.device | str = "cpu") -> tuple[float, float]:
    """Share of fake rows inside a ball of the real set, and of real rows inside a ball of the fake set.

    The ball of a row reaches to its k-th nearest other row, border included.
    """
    real, fake = _tensors(real, fake, k, device)
    precision = _inside(fake, real, _radii(real, k)).double().mean()
    recall = _inside(real, fake, _radii(fake, k)).double().mean()
    return float(precision), float(recall)


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5, device: torch.device | str = "cpu") -> tuple[float, float]:
    """Mean number of real balls that a fake row lies in, over k; and share of real balls with a fake row inside.

    Borders are left out, as in the paper.
    """
    real, fake = _tensors(real, fake, k, device)
    radii = _radii(real, k)
    hits, covered = 0, 0
    for block, radius in zip(blocks(real), blocks(radii), strict=True):
        inside = _squared(block, fake) < radius[:, None]
        hits += int(inside.sum())
        covered += int(inside.any(dim=1).sum())
    return hits / (k * len(fake)), covered / len(real)


def _tensors(real: np.ndarray, fake: np.ndarray, k: int, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    real, fake = real_and_fake(real, fake, k + 1, device)
    # Distances come from products, so the common offset goes first: it would cost digits.
    centre = real.mean(0)
    return real - centre, fake - centre


def _radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Squared distance of each row to its k-th nearest other row.  # [N]"""
    nearest = (_squared(block, x).kthvalue(k + 1, dim=1).values for block in blocks(x))  # the first is the row itself
    return torch.cat(list(nearest))


def _inside(points: torch.Tensor, centres: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    return torch.cat([(_squared(block, centres) <= radii).any(dim=1) for block in blocks(points)])


def _squared(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Squared distances of all pairs, [n, m]."""
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp_min_(0)
