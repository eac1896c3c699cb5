"""Kernel Inception Distance (Binkowski et al. 2018): the unbiased MMD^2 estimate with k(x, y) = (x.y / d + 1)^3.

Works on any features, in float64. It may be slightly negative, since it is unbiased.
"""

from __future__ import annotations

import numpy as np

FIDELITY_SEED = 2020  # torch-fidelity's default
_BLOCK_ROWS = 2048


def kid(real: np.ndarray, fake: np.ndarray) -> float:
    """MMD^2 between real [M, d] and fake [N, d]; both need at least two rows."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise ValueError(f"kid needs two [at least 2, d] arrays of one width, got {real.shape} and {fake.shape}")
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    m, n = len(real), len(fake)
    within_real = _kernel_sum(real, real) - _kernel(np.einsum("nd,nd->n", real, real), real.shape[1]).sum()
    within_fake = _kernel_sum(fake, fake) - _kernel(np.einsum("nd,nd->n", fake, fake), fake.shape[1]).sum()
    return float(within_real / (m * (m - 1)) + within_fake / (n * (n - 1)) - 2 * _kernel_sum(real, fake) / (m * n))


def kid_of_subsets(real: np.ndarray, fake: np.ndarray, *, num_subsets: int, subset_size: int,
                   seed: int = FIDELITY_SEED) -> tuple[float, float]:
    """Mean and standard deviation (ddof 0) over subsets drawn without replacement; the customary form of KID.

    The draws are those of torch-fidelity (numpy's RandomState, the generated rows first), so equal features in equal
    order give its number.
    """
    size = min(subset_size, len(real), len(fake))
    stream = np.random.RandomState(seed)
    values = []
    for _ in range(num_subsets):
        chosen = fake[stream.choice(len(fake), size, replace=False)]
        values.append(kid(real[stream.choice(len(real), size, replace=False)], chosen))
    return float(np.mean(values)), float(np.std(values))


def _kernel(products: np.ndarray, width: int) -> np.ndarray:
    return (products / width + 1) ** 3


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    # Blocks bound the memory: 30k x 30k products in float64 would be 7 GB.
    starts = range(0, len(x), _BLOCK_ROWS)
    return sum(float(_kernel(x[i:i + _BLOCK_ROWS] @ y.T, x.shape[1]).sum()) for i in starts)
