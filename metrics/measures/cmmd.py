"""CMMD (Jayasumana et al. 2024): 1000 x the biased MMD^2 of unit CLIP embeddings, k(x, y) = exp(-|x - y|^2 / 2 sigma^2).

float64 in blocks. Published values use ViT-L/14 at 336 px and sigma = 10.
"""

from __future__ import annotations

import numpy as np
import torch

from metrics.arithmetic.pairwise import mean_over_pairs, real_and_fake
from metrics.measures.clip_score import unit_rows

SCALE = 1000.0


def cmmd(real: np.ndarray, fake: np.ndarray, sigma: float = 10.0, device: torch.device | str = "cpu") -> float:
    """real [M, d], fake [N, d], of any length each; rows are scaled to length one first."""
    real, fake = real_and_fake(unit_rows(real), unit_rows(fake), 1, device)

    def below_one(products: torch.Tensor) -> torch.Tensor:
        """1 - k: for unit vectors |x - y|^2 = 2 - 2 x.y. Near one k loses its last digits; the ones add up to zero."""
        return -torch.expm1((products - 1) / sigma ** 2)

    total = mean_over_pairs(real, real, below_one) + mean_over_pairs(fake, fake, below_one)
    return SCALE * (2 * mean_over_pairs(real, fake, below_one) - total)
