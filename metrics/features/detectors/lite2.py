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

# Detail is read at 256 px and more: docs/evaluation.md has the measurement.
_FINE_PX = 256

# Largest number of pixels that the network reads at once. It bounds the memory of large pictures.
_PIXELS_AT_ONCE = 32 * 256**2


class Lite2Detector:
    """D = 1280, float32 on every device.

    The detector "lite2" reads every picture at 128 px, so it does not see finer detail. fine: the
    detector "lite2:fine" enlarges a picture to 256 px, and reads a larger one at its own size.
    """

    def __init__(self, device: torch.device, fine: bool = False) -> None:
        self.device, self.fine = device, fine
        self.name = "lite2:fine" if fine else "lite2"
        side = f"{_FINE_PX} px if it has fewer" if fine else f"{_INPUT_PX} px"
        self.resize = f"antialiased bicubic, short side to {side}, centre crop"
        self.net = efficientnet_features("lite2", _INPUT_PX).to(device)
        self.weights_sha256 = self.net.weights_sha256

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self.fine:
            self.net.input_px = max(_FINE_PX, min(images.shape[-2:]))
        number = max(1, _PIXELS_AT_ONCE // self.net.input_px**2)
        parts = images.to(self.device, non_blocking=True).split(number)
        return torch.cat([self.net(from_uint8(part)).float() for part in parts])
