"""StyleGAN2's skip generator (Karras et al. 2020, sections 2 and 4), for text by way of its mapping network.

Modulated 3 x 3 convolutions from a learned 4 x 4 constant, RGB summed over the scales. Noise inputs are left out: here a
picture is a function of seed and prompt. One size only.

Modulation and demodulation act on the features before and after one shared convolution, x s -> conv(W) -> d with
d_o = (sum_i s_i^2 sum_k W_oik^2)^(-1/2): the same function as per-sample weights, without a convolution a sample.

Shapes: N batch, d style width, C input and O output channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from networks.generators.native import NativeGenerator
from networks.generators.style import GeneratorOptions, Output, StyleGenerator, to_output
from networks.interfaces import Codes
from networks.layers.conv import low_pass
from networks.layers.linear import EqualLinear
from networks.layers.scale_widths import scale_widths
from torch_utils.ops.modulated_linear.reference import DEMODULATION_EPS, LEAKY_GAIN, LEAKY_SLOPE


@dataclass(frozen=True, kw_only=True)
class Stylegan2Config(GeneratorOptions):
    """Defaults are config F at 256 x 256 and full width, 30.0 M parameters; channel_base = 16384 is half the width.

    resolution: side of the pictures, a power of two. sentence_dim: 0 = unconditional.
    """

    kind: ClassVar[str] = "stylegan2"
    word_dim: ClassVar[int] = 0  # reads no words

    resolution: int = 256
    sentence_dim: int = 0
    style_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    output: Output = "linear"

    def __post_init__(self) -> None:
        scale_widths("generator", self.resolution, self.channel_base, self.channel_max)

    def build(self) -> Stylegan2:
        return Stylegan2(self)


def upsample(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] -> [N, C, 2H, 2W]: zeros between the samples, then the low-pass kernel [4, 4] times 4."""
    channels = x.shape[1]
    weight = (kernel * 4).to(x.dtype).expand(channels, 1, -1, -1)
    return functional.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


class ModulatedConv2d(nn.Module):
    """x [N, C, H, W], style [N, d] -> [N, O, H, W]; with `up` twice the size, low-passed after the transposed convolution."""

    filter: torch.Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style_dim: int,
        *,
        kernel: int = 3,
        up: bool = False,
        demodulate: bool = True,
        activate: bool = True,
        weight_init: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(out_channels, in_channels, kernel, kernel) * weight_init
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = EqualLinear(
            style_dim, in_channels, bias_init=1.0, weight_init=1.0 if demodulate else 0.2
        )
        self.gain = 1 / math.sqrt(in_channels * kernel * kernel)
        self.padding, self.demodulate, self.activate = kernel // 2, demodulate, activate
        self.register_buffer("filter", low_pass("binomial") if up else None, persistent=False)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        style, weight = self.affine(style).float(), self.weight * self.gain
        x = x * style[:, :, None, None].to(x.dtype)
        if self.filter is None:
            x = functional.conv2d(x, weight.to(x.dtype), padding=self.padding)
        else:
            x = functional.conv_transpose2d(
                x, weight.to(x.dtype).transpose(0, 1), stride=2
            )  # [N, O, 2H + 1, 2W + 1]
            kernel = (self.filter * 4).to(x.dtype).expand(x.shape[1], 1, -1, -1)
            x = functional.conv2d(x, kernel, padding=1, groups=x.shape[1])
        if self.demodulate:
            # A sum of products, not a matrix product: autocast would round that to bf16.
            norm = (style.square().unsqueeze(1) * weight.square().sum(dim=(2, 3))).sum(
                dim=2
            )  # [N, O]
            x = x * (norm + DEMODULATION_EPS).rsqrt()[:, :, None, None].to(x.dtype)
        x = x + self.bias[:, None, None].to(x.dtype)
        return functional.leaky_relu(x, LEAKY_SLOPE) * LEAKY_GAIN if self.activate else x


class SkipBlock(nn.Module):
    """One scale: up and convolve, convolve (the 4 x 4 scale: convolve), and an RGB that adds to the one from below."""

    filter: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, *, first: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [ModulatedConv2d(in_channels, out_channels, style_dim, up=not first)]
        )
        if not first:
            self.layers.append(ModulatedConv2d(out_channels, out_channels, style_dim))
        self.to_rgb = ModulatedConv2d(
            out_channels, 3, style_dim, kernel=1, demodulate=False, activate=False, weight_init=0.25
        )
        self.register_buffer("filter", low_pass("binomial"), persistent=False)

    def forward(
        self, x: torch.Tensor, rgb: torch.Tensor | None, style: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        for layer in self.layers:
            x = layer(x, style)
        own = self.to_rgb(x, style)
        return x, own if rgb is None else upsample(rgb, self.filter) + own


class Stylegan2(NativeGenerator, StyleGenerator):
    """See the module; `config` is kept as `.config`."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__(config)
        widths = list(
            scale_widths(
                "generator", config.resolution, config.channel_base, config.channel_max
            ).values()
        )
        self.constant = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.blocks = nn.ModuleList(
            SkipBlock(a, b, config.style_dim, first=i == 0)
            for i, (a, b) in enumerate(pairwise([widths[0], *widths]))
        )

    def paint(self, codes: Codes) -> torch.Tensor:
        style = codes.tokens[:, 0]
        x, rgb = self.constant.to(style.dtype).expand(len(style), -1, -1, -1), None
        for block in self.blocks:
            x, rgb = block(x, rgb, style)
        assert isinstance(rgb, torch.Tensor)  # there is at least one scale
        return to_output(rgb.float(), self.config.output)
