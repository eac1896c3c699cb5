"""CMMD (Jayasumana et al. 2024): 1000 x the biased MMD^2 of unit CLIP embeddings, k(x, y) = exp(-|x - y|^2 / 2 sigma^2).

float64 in blocks. Published values use ViT-L/14 at 336 px and sigma = 10.
"""

from __future__ import annotations

import numpy as np

from metrics.clip_score import unit_rows

SCALE = 1000.0
_BLOCK_ROWS = 2048


def cmmd(real: np.ndarray, fake: np.ndarray, sigma: float = 10.0) -> float:
    """real [M, d], fake [N, d], of any length each; rows are scaled to length one first."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or not len(real) or not len(fake):
        raise ValueError(f"cmmd needs two [at least 1, d] arrays of one width, got {real.shape} and {fake.shape}")
    real, fake = unit_rows(real), unit_rows(fake)
    # Near one the kernel cancels to the last digits, so 1 - k is summed instead; the ones add up to zero.
    total = _mean(real, real, sigma) + _mean(fake, fake, sigma) - 2 * _mean(real, fake, sigma)
    return -SCALE * total


def _mean(x: np.ndarray, y: np.ndarray, sigma: float) -> float:
    """Mean of 1 - k(x_i, y_j); for unit vectors |x - y|^2 = 2 - 2 x.y."""
    total = 0.0
    for start in range(0, len(x), _BLOCK_ROWS):
        products = x[start:start + _BLOCK_ROWS] @ y.T
        total -= float(np.expm1((products - 1) / sigma ** 2).sum())
    return total / (len(x) * len(y))
