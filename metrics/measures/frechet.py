"""Frechet distance of two Gaussians (Heusel et al. 2017, FID): |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

The trace of the root is the sum of the roots of the eigenvalues of C1 C2. With C1 = A A^T these are the eigenvalues of
the symmetric A^T C2 A, which are real and not negative, so nothing imaginary has to be thrown away.
"""

from __future__ import annotations

import numpy as np
import torch

from dnnlib.errors import UserError
from metrics.arithmetic.pairwise import float64_device
from metrics.features.moments import Moments


def frechet_distance(real: Moments, fake: Moments, device: torch.device | str = "cpu") -> float:
    """Squared Frechet (2-Wasserstein) distance; float64 throughout, on `device` where that has float64."""
    if real.mean.shape != fake.mean.shape:
        raise UserError(f"features of width {real.mean.shape[0]} and {fake.mean.shape[0]} cannot "
                        "be compared")
    first, second = (torch.from_numpy(moments.covariance).to(float64_device(device)) for moments in (real, fake))
    values, vectors = torch.linalg.eigh(first)
    kept = values > _noise(values)  # fewer pictures than features: the rest is rounding
    factor = vectors[:, kept] * values[kept].sqrt()
    roots = torch.linalg.eigvalsh(factor.T @ second @ factor)
    trace_of_root = roots[roots > _noise(roots)].sqrt().sum() if len(roots) else roots.sum()
    difference = real.mean - fake.mean
    return float(difference @ difference) + float(first.trace() + second.trace() - 2 * trace_of_root)


def _noise(eigenvalues: torch.Tensor) -> float:
    """What the rounding of a float64 decomposition may leave of an eigenvalue that is zero."""
    if not len(eigenvalues):
        return 0.0
    return float(eigenvalues.abs().max()) * len(eigenvalues) * np.finfo(np.float64).eps
