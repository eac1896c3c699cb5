"""The pictures themselves, for measures that need no network: uint8 [N, 3 * H * W]."""

from __future__ import annotations

import torch


class PixelDetector:
    """Hands pictures through, so that they are shared and gathered as features are.

    They are not cached: that would be a copy of the data set.
    """

    cached = False
    name = "pixels"
    weights_sha256 = "none"
    resize = "none"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self.device, non_blocking=True).flatten(1)
