"""Pooled features of the ImageNet EfficientNet-lite2, a stand-in that needs no download.

Its sibling lite0 is part of the embedded text encoder and may be part of a training loss, so lite0
never scores pictures.
"""

from __future__ import annotations

import torch

from networks.pretrained.efficientnet import efficientnet_features
from torch_utils.tensors import from_uint8

# The network was trained at 260 px. Icons of 32 to 64 px hold no more detail than 128 px show, and
# a CPU is four times faster.
_INPUT_PX = 128


class Lite2Detector:
    """D = 1280, float32 on every device."""

    name = "lite2"
    resize = f"antialiased bicubic, short side to {_INPUT_PX} px, centre crop"

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.net = efficientnet_features("lite2", _INPUT_PX).to(device)
        self.weights_sha256 = self.net.weights_sha256

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(from_uint8(images.to(self.device, non_blocking=True))).float()
