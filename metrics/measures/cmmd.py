"""CMMD: 1000 x the biased MMD^2 of unit CLIP embeddings (Jayasumana et al. 2024).

The kernel is k(x, y) = exp(-|x - y|^2 / 2 sigma^2). It is computed in float64, in blocks.
Published values use ViT-L/14 at 336 px and sigma = 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metrics.arithmetic.pairwise import mean_over_pairs, real_and_fake, unit_vectors
from metrics.measures.base import Evaluation, Fields, Measure, Session

if TYPE_CHECKING:
    import torch

SCALE = 1000.0


@dataclass(frozen=True, kw_only=True)
class Cmmd(Measure):
    """CMMD between the generated pictures and all real pictures of the split."""

    kind = "cmmd"
    better = "low"
    detector: str
    sigma: float = 10.0

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        real, generated = session.vectors(evaluation)
        value = cmmd(real, generated, self.sigma, session.device)
        return {"value": value, "num_real": len(real)}


def cmmd(
    real: np.ndarray, fake: np.ndarray, sigma: float = 10.0, device: torch.device | str = "cpu"
) -> float:
    """CMMD of real [M, d] and fake [N, d], which are scaled to length one first."""
    real, fake = real_and_fake(unit_vectors(real), unit_vectors(fake), 1, device)

    def below_one(products: torch.Tensor) -> torch.Tensor:
        """1 - k, since |x - y|^2 = 2 - 2 x.y for unit vectors.

        Near one, k itself would lose its last digits; the ones add up to zero in the sum.
        """
        return -((products - 1) / sigma**2).expm1()

    total = mean_over_pairs(real, real, below_one) + mean_over_pairs(fake, fake, below_one)
    return SCALE * (2 * mean_over_pairs(real, fake, below_one) - total)
