"""Frechet distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

Heusel et al. 2017, where it is called FID. The trace of the root is the sum of the roots of the
eigenvalues of C1 C2. With C1 = A A^T these are the eigenvalues of the symmetric matrix A^T C2 A.
They are real and not negative, so no imaginary part has to be dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dnnlib.errors import UserError
from metrics.arithmetic.pairwise import float64_device
from metrics.features.wants import MOMENTS
from metrics.measures.base import Evaluation, Fields, Measure, Session

if TYPE_CHECKING:
    import torch

    from metrics.features.moments import Moments


@dataclass(frozen=True, kw_only=True)
class Frechet(Measure):
    """Distance of Gaussians fitted to the features of real and generated pictures (ddof 1)."""

    kind = "frechet"
    better = "low"
    wants = MOMENTS
    detector: str

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`num_real` is None for statistics of another tool, which do not say their count."""
        real, generated = session.moments(evaluation)
        value = frechet_distance(real, generated, session.device)
        return {"value": value, "num_real": real.count or None, "ddof": 1}


def frechet_distance(real: Moments, fake: Moments, device: torch.device | str = "cpu") -> float:
    """The squared Frechet (2-Wasserstein) distance, computed in float64.

    It is computed on `device`, or on the CPU if that device has no float64.
    """
    import torch

    if real.mean.shape != fake.mean.shape:
        raise UserError(
            f"features of width {real.mean.shape[0]} and {fake.mean.shape[0]} cannot be compared"
        )
    first, second = (
        torch.from_numpy(moments.covariance).to(float64_device(device)) for moments in (real, fake)
    )
    values, vectors = torch.linalg.eigh(first)
    # With fewer pictures than features some eigenvalues are zero up to rounding.
    kept = values > _noise(values)
    factor = vectors[:, kept] * values[kept].sqrt()
    roots = torch.linalg.eigvalsh(factor.T @ second @ factor)
    trace_of_root = roots[roots > _noise(roots)].sqrt().sum() if len(roots) else roots.sum()
    difference = real.mean - fake.mean
    traces = float(first.trace() + second.trace() - 2 * trace_of_root)
    return float(difference @ difference) + traces


def _noise(eigenvalues: torch.Tensor) -> float:
    """What rounding in float64 may leave of an eigenvalue that is zero."""
    if not len(eigenvalues):
        return 0.0
    return float(eigenvalues.abs().max()) * len(eigenvalues) * np.finfo(np.float64).eps
