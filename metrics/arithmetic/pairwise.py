"""Feature vectors in float64 on a device, and sums over all pairs of them in bounded memory.

Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from dnnlib.errors import UserError

if TYPE_CHECKING:
    import torch

BLOCK = 2048  # vectors at once; all products of 30,000 by 30,000 in float64 would need 7 GB


def float64_device(device: torch.device | str) -> torch.device:
    """`device`, or the CPU if that device has no float64."""
    import torch

    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device


def real_and_fake(
    real: np.ndarray, fake: np.ndarray, at_least: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sets of feature vectors, [M, D] and [N, D], as float64 tensors on `device`.

    Raises `UserError` if their widths D differ or if a set has fewer than `at_least` vectors.
    """
    import torch

    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise UserError(
            f"two sets of feature vectors of one width are needed, got {real.shape} and "
            f"{fake.shape}"
        )
    if len(fake) < at_least:
        raise UserError(
            f"at least {at_least} generated pictures are needed, there are {len(fake)}; give "
            f"--num-images {at_least} or more"
        )
    if len(real) < at_least:
        raise UserError(
            f"at least {at_least} real pictures are needed, there are {len(real)}; give a larger "
            "--data or --ref"
        )
    place = float64_device(device)
    real, fake = (
        torch.from_numpy(np.ascontiguousarray(x)).to(place, torch.float64) for x in (real, fake)
    )
    return real, fake


def blocks(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The vectors of x [N, D], a block at a time."""
    return iter(x.split(BLOCK))


def mean_over_pairs(
    x: torch.Tensor, y: torch.Tensor, kernel: Callable[[torch.Tensor], torch.Tensor]
) -> float:
    """Mean of kernel(x_i . y_j) over all i and j."""
    return sum(float(kernel(block @ y.T).sum()) for block in blocks(x)) / (len(x) * len(y))


def unit_vectors(x: np.ndarray) -> np.ndarray:
    """Vectors [N, D] scaled to length one, in float64.

    A zero vector stays zero, so its cosine with every vector is 0.
    """
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
