"""Kernel Inception Distance: the unbiased estimate of MMD^2 with k(x, y) = (x.y / d + 1)^3.

Binkowski et al. 2018. It works on any features, in float64. Since it is unbiased, it may be
slightly negative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from metrics.arithmetic.pairwise import mean_over_pairs, real_and_fake
from metrics.measures.base import Evaluation, Fields, Measure, Session
from metrics.pictures.specifications import Pictures, Sight

if TYPE_CHECKING:
    import torch

FIDELITY_SEED = 2020  # the default of torch-fidelity
ENLARGED: dict[Sight, Sight] = {
    "x2": "x2_enlarged",
    "x4": "x4_enlarged",
    "x8": "x8_enlarged",
}


@dataclass(frozen=True, kw_only=True)
class Kid(Measure):
    """KID between the generated pictures and all real pictures of the split.

    With num_subsets = 0 both whole sets are compared at once. Otherwise the value is the mean over
    that many subsets of `subset_size` pictures, drawn as torch-fidelity draws them.
    """

    kind = "kid"
    better = "low"
    detector: str
    num_subsets: int = 0
    subset_size: int = 0

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`spread` is the deviation over subsets, not over seeds."""
        real, generated = session.vectors(evaluation)
        if self.num_subsets == 0:
            return {"value": kid(real, generated, session.device), "num_real": len(real)}
        mean, spread = kid_of_subsets(
            real,
            generated,
            num_subsets=self.num_subsets,
            subset_size=self.subset_size,
            device=session.device,
        )
        size = min(self.subset_size, len(real), len(generated))
        return {"value": mean, "spread": spread, "subset_size": size, "num_real": len(real)}


@dataclass(frozen=True, kw_only=True)
class Detail(Measure):
    """KID of pictures rendered at factor x S against real pictures of that size.

    The record also holds the KID of renders at S that are enlarged bicubically.
    """

    kind = "detail"
    better = "low"
    detector: str
    factor: int

    def passes(self, pictures: Pictures) -> tuple[Pictures, ...]:
        """The pictures rendered at the large size, then those enlarged to it."""
        return pictures, replace(pictures, sight=ENLARGED[pictures.sight])

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """If `value` is not below `enlarged`, the detail is not real."""
        real = session.real(evaluation).get_vectors()
        rendered, enlarged = (
            kid(real, session.generated(pictures, self.detector).get_vectors(), session.device)
            for pictures in self.passes(evaluation.pictures)
        )
        return {"value": rendered, "enlarged": enlarged, "num_real": len(real)}


def kid(real: np.ndarray, fake: np.ndarray, device: torch.device | str = "cpu") -> float:
    """MMD^2 between real [M, d] and fake [N, d]. Each set needs at least two vectors."""
    return _mmd(*real_and_fake(real, fake, 2, device))


def kid_of_subsets(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    num_subsets: int,
    subset_size: int,
    seed: int = FIDELITY_SEED,
    device: torch.device | str = "cpu",
) -> tuple[float, float]:
    """Mean and standard deviation (ddof 0) over subsets drawn without replacement.

    The draws are those of torch-fidelity (numpy's RandomState, the generated vectors first), so
    equal features in equal order give its number.
    """
    real, fake = real_and_fake(real, fake, 2, device)
    size = min(subset_size, len(real), len(fake))
    stream = np.random.RandomState(seed)
    values = []
    for _ in range(num_subsets):
        chosen = fake[stream.choice(len(fake), size, replace=False)]
        values.append(_mmd(real[stream.choice(len(real), size, replace=False)], chosen))
    return float(np.mean(values)), float(np.std(values))


def _mmd(real: torch.Tensor, fake: torch.Tensor) -> float:
    def kernel(products: torch.Tensor) -> torch.Tensor:
        return (products / real.shape[1] + 1) ** 3

    def within(x: torch.Tensor) -> float:
        diagonal = float(kernel(x.square().sum(1)).mean())
        return (len(x) * mean_over_pairs(x, x, kernel) - diagonal) / (len(x) - 1)

    return within(real) + within(fake) - 2 * mean_over_pairs(real, fake, kernel)
