"""Feature rows in float64 on a device, and sums over all pairs of rows in blocks that bound the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from dnnlib.errors import UserError

BLOCK_ROWS = 2048  # 30k x 30k products in float64 would be 7 GB


def float64_device(device: torch.device | str) -> torch.device:
    """`device`, or the CPU where that has no float64."""
    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device


def real_and_fake(real: np.ndarray, fake: np.ndarray, at_least: int, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as float64 tensors on `device`.

    Raises `UserError` unless they are [`at_least` or more, d] of one width.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise UserError("two arrays of rows of one width are needed, got "
                        f"{real.shape} and {fake.shape}")
    if len(fake) < at_least:
        raise UserError(f"at least {at_least} generated pictures are needed, there are "
                        f"{len(fake)}; give --num-images {at_least} or more")
    if len(real) < at_least:
        raise UserError(f"at least {at_least} real pictures are needed, there are {len(real)}; "
                        "give a larger --data or --ref")
    real, fake = (torch.from_numpy(np.ascontiguousarray(x)).to(float64_device(device), torch.float64) for x in (real, fake))
    return real, fake


def blocks(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The rows of x, a block at a time."""
    return iter(x.split(BLOCK_ROWS))


def mean_over_pairs(x: torch.Tensor, y: torch.Tensor, kernel: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Mean of kernel(x_i . y_j) over all i, j."""
    return sum(float(kernel(block @ y.T).sum()) for block in blocks(x)) / (len(x) * len(y))
