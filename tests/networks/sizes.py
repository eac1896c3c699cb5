"""Networks small enough for tests."""

from __future__ import annotations

from typing import Any

import torch

SMALL_FROZEN: dict[str, Any] = {  # fields of FrozenFeaturesConfig
    "input_px": 32,
    "channels": (8, 16),
    "head_channels": 8,
    "pixel_channels": 8,
}


class Pixels(torch.nn.Module):
    """In place of `FrozenScales`, whose forward takes most of a test's time."""

    def __init__(self, *arguments):
        super().__init__()

    def forward(self, images):
        return [images, torch.nn.functional.avg_pool2d(images, 4)]
