"""EIDGAN's wavelet discriminator, after StyleSwin (Zhang et al. 2022).

The first layer reads the picture at full resolution. The picture is then halved for each further
scale, and the orthonormal Haar sub-bands of each halving are added to the features of that scale
through a 1 x 1 layer. The sub-band LL / 2 is the halved picture, so one transform gives both. One
scale of low resolution also has a spectral block: eq. 6 without a style, that is a learned spectrum
over the channels of each position, folded into a 1 x 1 layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from dnnlib.bounds import AtLeastOne, NotNegativeInt, check_bounds
from dnnlib.errors import UserError
from networks.discriminators.head import TextProjectionHead
from networks.interfaces import Discriminator, TextFeatures, Verdict
from networks.layers.conv import EqualConv2d, ResidualDown
from networks.layers.scale_widths import scale_widths
from torch_utils.ops.haar_wavelet import haar_wavelet
from torch_utils.ops.modulated_linear import spectral_fold
from torch_utils.ops.modulated_linear.reference import LEAKY_GAIN, LEAKY_SLOPE


@dataclass(frozen=True, kw_only=True)
class WaveletDiscriminatorConfig:
    """Config of the wavelet discriminator.

    resolution: side of the pictures, a power of two.
    channel_base, channel_max: scale s has min(channel_base / s, channel_max) channels.
    sentence_dim, feature_dim, group_size, kernels: see `TextProjectionHead`.
    spectral_scale: the scale that has the spectral block, a power of two from 4 to half the
        resolution; 0 = none.
    """

    kind: ClassVar[str] = "wavelet"

    resolution: int = 256
    channel_base: int = 16384
    channel_max: int = 512
    sentence_dim: int = 512
    feature_dim: int = 512
    spectral_scale: int = 16
    group_size: AtLeastOne = 4
    kernels: NotNegativeInt = 0

    def __post_init__(self) -> None:
        check_bounds(self, "discriminator.")
        scales = scale_widths("discriminator", self.resolution, self.channel_base, self.channel_max)
        if self.spectral_scale and self.spectral_scale not in list(scales)[1:]:
            raise UserError(
                f"discriminator.spectral_scale: {self.spectral_scale} is none of "
                f"{list(scales)[1:]} (0 = none)"
            )

    def with_io(
        self, resolution: int, sentence_dim: int, feature_dim: int
    ) -> WaveletDiscriminatorConfig:
        return replace(
            self, resolution=resolution, sentence_dim=sentence_dim, feature_dim=feature_dim
        )

    def build(self) -> WaveletDiscriminator:
        return WaveletDiscriminator(self)


class SpectralBlock(nn.Module):
    """x [N, C, H, W] -> (x + f(x)) / sqrt(2), of the same shape.

    f multiplies the spectrum of the channels of each position by a learned spectrum and then
    applies a 1 x 1 layer with leaky ReLU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        # Real and imaginary part of each frequency; the identity at the start.
        self.spectrum = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(channels // 2 + 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = spectral_fold(self.weight, torch.view_as_complex(self.spectrum))
        weight = weight * (LEAKY_GAIN / math.sqrt(weight.shape[1]))
        y = functional.conv2d(
            x, weight[:, :, None, None].to(x.dtype), (self.bias * LEAKY_GAIN).to(x.dtype)
        )
        return (x + functional.leaky_relu(y, LEAKY_SLOPE, inplace=True)) * math.sqrt(0.5)


class WaveletDiscriminator(Discriminator):
    """Images [N, 3, R, R] in [-1, 1] -> `trunk` -> hidden [N, C] -> `judge` -> Verdict.

    R is `config.resolution`.
    """

    def __init__(self, config: WaveletDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = scale_widths(
            "discriminator", config.resolution, config.channel_base, config.channel_max
        )
        scales = list(widths)
        self.from_rgb = EqualConv2d(3, widths[config.resolution], 1)
        self.blocks = nn.ModuleList(
            ResidualDown(widths[a], widths[b], "box", math.sqrt(0.5)) for a, b in pairwise(scales)
        )
        self.from_wavelet = nn.ModuleList(
            EqualConv2d(12, widths[scale], 1, scale=math.sqrt(0.5)) for scale in scales[1:]
        )
        self.spectral_after = (
            scales.index(config.spectral_scale) - 1 if config.spectral_scale else None
        )
        self.spectral = (
            SpectralBlock(widths[config.spectral_scale]) if config.spectral_scale else None
        )
        self.head = TextProjectionHead(
            widths[4],
            sentence_dim=config.sentence_dim,
            feature_dim=config.feature_dim,
            group_size=config.group_size,
            kernels=config.kernels,
        )

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        x = self.from_rgb(images)
        layers = zip(self.blocks, self.from_wavelet, strict=True)
        for index, (block, from_wavelet) in enumerate(layers):
            bands = haar_wavelet(images)
            images = bands[:, :3] * 0.5
            x = block(x) + from_wavelet(bands)
            if self.spectral is not None and index == self.spectral_after:
                x = self.spectral(x)
        return self.head.trunk(x)

    def judge(self, hidden: torch.Tensor, text: TextFeatures | None) -> Verdict:
        return self.head.judge(hidden, text)
