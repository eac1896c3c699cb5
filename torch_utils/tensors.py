"""The two conversions between stored pictures and what networks see, and the way to a device. Every other place calls these.

Stored pictures: uint8, 0 to 255. Network pictures: float, -1 to 1. Both [..., 3, H, W].
"""

from __future__ import annotations

import torch


def to_device(x: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """x on `device`; to CUDA through page-locked memory, without waiting for what runs there."""
    if x.device.type == "cpu" and torch.device(device).type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def from_uint8(images: torch.Tensor) -> torch.Tensor:
    """uint8 [..., 3, H, W] -> float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """float [..., 3, H, W], nominally in [-1, 1] -> uint8, rounded to nearest and clamped."""
    scaled = (
        images.to(torch.float32) * 127.5
    )  # a copy of its own: the rest in place, for pictures of gigabytes
    return scaled.add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
