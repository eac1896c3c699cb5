"""A small network with seeded, fixed weights, for tests with known numbers. It judges nothing."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from metrics.features.detectors import weights_sha256
from torch_utils.rng import generator_for
from torch_utils.tensors import from_uint8

_WIDTHS = (3, 16, 32)


class ToyDetector:
    """Two random 3 x 3 convolutions of stride 2, then mean and deviation over positions: D = 64."""

    name = "toy"
    resize = "none"

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.net = nn.Sequential()
        for index, (fan_in, fan_out) in enumerate(pairwise(_WIDTHS)):
            layer = nn.utils.skip_init(
                nn.Conv2d, fan_in, fan_out, 3, stride=2, padding=1, bias=False
            )
            weight = torch.randn(layer.weight.shape, generator=generator_for("toy detector", index))
            layer.weight = nn.Parameter(weight * (2 / (9 * fan_in)) ** 0.5, requires_grad=False)
            self.net.extend([layer, nn.LeakyReLU(0.2)])
        self.net.to(device)
        self.weights_sha256 = weights_sha256(self.net)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        features = self.net(from_uint8(images.to(self.device, non_blocking=True))).flatten(2)
        return torch.cat([features.mean(2), features.std(2, unbiased=False)], dim=1)
