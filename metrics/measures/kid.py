"""Kernel Inception Distance (Binkowski et al. 2018): the unbiased MMD^2 estimate with k(x, y) = (x.y / d + 1)^3.

Works on any features, in float64. It may be slightly negative, since it is unbiased.
"""

from __future__ import annotations

import numpy as np
import torch

from metrics.arithmetic.pairwise import mean_over_pairs, real_and_fake

FIDELITY_SEED = 2020  # torch-fidelity's default


def kid(real: np.ndarray, fake: np.ndarray, device: torch.device | str = "cpu") -> float:
    """MMD^2 between real [M, d] and fake [N, d]; both need at least two rows."""
    return _mmd(*real_and_fake(real, fake, 2, device))


def kid_of_subsets(real: np.ndarray, fake: np.ndarray, *, num_subsets: int, subset_size: int, seed: int = FIDELITY_SEED,
                   device: torch.device | str = "cpu") -> tuple[float, float]:
    """Mean and standard deviation (ddof 0) over subsets drawn without replacement; the customary form of KID.

    The draws are those of torch-fidelity (numpy's RandomState, the generated rows first), so equal features in equal
    order give its number.
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
