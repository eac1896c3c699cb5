"""The four Haar sub-bands as sums and differences of 2 x 2 neighbours, in plain PyTorch."""

from __future__ import annotations

import torch


def haar_wavelet(x: torch.Tensor) -> torch.Tensor:
    """Transform [N, C, H, W] with even H and W -> [N, 4 C, H/2, W/2], ordered LL, LH, HL, HH.

    The transform is orthonormal: the sum of squares is kept, and LL is twice the 2 x 2 mean. Raises
    `ValueError` for odd sizes.
    """
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        raise ValueError(f"haar_wavelet needs even height and width, got {tuple(x.shape[-2:])}")
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    top, bottom = a + b, c + d
    top_difference, bottom_difference = a - b, c - d
    bands = (
        top + bottom,
        top_difference + bottom_difference,
        top - bottom,
        top_difference - bottom_difference,
    )
    return torch.cat(bands, dim=1) * 0.5
