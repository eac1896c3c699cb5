"""How a picture reaches the input size of a detector: the three modes of clean-fid, by name.

Parmar et al. 2022. All modes take uint8 [N, 3, H, W] and give float32 [N, 3, size, size] in 0..255.
A picture that has that size already is unchanged.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F

ResizeMode = Literal["legacy_tensorflow", "legacy_pytorch", "clean"]

DESCRIPTIONS: dict[str, str] = {
    "legacy_tensorflow": "bilinear as TensorFlow 1 (corner origin, no antialias)",
    "legacy_pytorch": "bilinear, pixel centres, no antialias",
    "clean": "bicubic with antialias as Pillow in float, clamped",
}


def resize(images: torch.Tensor, size: int, mode: ResizeMode) -> torch.Tensor:
    """uint8 [N, 3, H, W] -> float32 [N, 3, size, size] in 0..255 by the named mode.

    - legacy_tensorflow: as torch-fidelity and the Inception of StyleGAN do.
    - legacy_pytorch: as pytorch-fid does, and so DM-GAN, DF-GAN and GALIP.
    - clean: as clean-fid does; equal to Pillow to 1e-3 of 255 (a test).
    """
    images = images.to(torch.float32)
    if images.shape[-2:] == (size, size):
        return images
    if mode == "legacy_tensorflow":
        return _bilinear_from_corner(_bilinear_from_corner(images, size, -1), size, -2)
    if mode == "legacy_pytorch":
        return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    assert mode == "clean", mode
    return F.interpolate(
        images, (size, size), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 255)


def _bilinear_from_corner(images: torch.Tensor, size: int, axis: int) -> torch.Tensor:
    """Along one axis: output k reads position k * (length / size), between its two neighbours."""
    length = images.shape[axis]
    position = torch.arange(size, dtype=torch.float32, device=images.device) * torch.tensor(
        length / size
    )
    low = position.long()
    shape = (-1, 1) if axis == -2 else (-1,)
    weight = (position - low).view(shape)
    first = images.index_select(axis, low)
    return first + (images.index_select(axis, (low + 1).clamp_max(length - 1)) - first) * weight
