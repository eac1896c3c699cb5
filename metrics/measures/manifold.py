"""Do generated pictures lie where real ones lie, and in all places where real ones lie?

Both sets are described by balls around each feature vector that reach to its k-th neighbour.
Precision and recall: Kynkaanniemi et al. 2019. Density and coverage: Naeem et al. 2020, equations
6 and 7. Distances are computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metrics.arithmetic.pairwise import blocks, real_and_fake
from metrics.measures.base import Evaluation, Fields, Measure, Session

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall(Measure):
    """The share of pictures inside the balls of the other set. `value` is precision."""

    kind = "precision_recall"
    better = "high"
    detector: str
    k: int = 3

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        real, generated = session.vectors(evaluation)
        precision, recall = precision_recall(real, generated, self.k, session.device)
        return {"value": precision, "recall": recall, "num_real": len(real)}


@dataclass(frozen=True, kw_only=True)
class DensityCoverage(Measure):
    """Density and coverage of the balls of the real set. `value` is density."""

    kind = "density_coverage"
    better = "high"
    detector: str
    k: int = 5

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        real, generated = session.vectors(evaluation)
        density, coverage = density_coverage(real, generated, self.k, session.device)
        return {"value": density, "coverage": coverage, "num_real": len(real)}


def precision_recall(
    real: np.ndarray, fake: np.ndarray, k: int = 3, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """The share of fake vectors inside a ball of the real set, and the reverse.

    The ball of a vector reaches to its k-th nearest other vector, border included.
    """
    real, fake = _tensors(real, fake, k, device)
    precision = _inside(fake, real, _radii(real, k)).double().mean()
    recall = _inside(real, fake, _radii(fake, k)).double().mean()
    return float(precision), float(recall)


def density_coverage(
    real: np.ndarray, fake: np.ndarray, k: int = 5, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Density: the mean number of real balls that hold a fake vector, divided by k.

    Coverage: the share of real balls that hold a fake vector. Borders are left out, as in the
    paper.
    """
    real, fake = _tensors(real, fake, k, device)
    radii = _radii(real, k)
    hits, covered = 0, 0
    for block, radius in zip(blocks(real), blocks(radii), strict=True):
        inside = _squared(block, fake) < radius[:, None]
        hits += int(inside.sum())
        covered += int(inside.any(dim=1).sum())
    return hits / (k * len(fake)), covered / len(real)


def _tensors(
    real: np.ndarray, fake: np.ndarray, k: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    real, fake = real_and_fake(real, fake, k + 1, device)
    # Distances are computed from products, where a common offset would cost digits.
    centre = real.mean(0)
    return real - centre, fake - centre


def _radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Squared distance of each vector to its k-th nearest other vector.  # [N]"""
    import torch

    # The nearest vector of all is the vector itself.
    nearest = (_squared(block, x).kthvalue(k + 1, dim=1).values for block in blocks(x))
    return torch.cat(list(nearest))


def _inside(points: torch.Tensor, centres: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat([(_squared(block, centres) <= radii).any(dim=1) for block in blocks(points)])


def _squared(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Squared distances of all pairs, [n, m]."""
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp_min_(0)
