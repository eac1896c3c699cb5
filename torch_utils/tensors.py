"""Conversions between stored pictures and pictures for networks, and copies to a device.

Stored pictures are uint8 from 0 to 255. Pictures for networks are float from -1 to 1. Both have the
shape [..., 3, H, W]. All other modules use these functions.
"""

from __future__ import annotations

import torch


def to_device(x: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Copy x to `device`.

    A copy to CUDA goes through page-locked memory and does not wait for the work on the GPU.
    """
    if x.device.type == "cpu" and torch.device(device).type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def from_uint8(images: torch.Tensor) -> torch.Tensor:
    """Convert uint8 pictures [..., 3, H, W] to float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Convert float pictures [..., 3, H, W] in [-1, 1] to uint8.

    Values are rounded to the nearest integer; values outside the range are clamped.
    """
    # This product is a new tensor, so the other operations can work in place. That saves memory for
    # pictures of gigabytes.
    scaled = images.to(torch.float32) * 127.5
    return scaled.add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
