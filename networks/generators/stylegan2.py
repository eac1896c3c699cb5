"""StyleGAN2's skip generator (Karras et al. 2020, sections 2 and 4), conditioned on text.

Modulated 3 x 3 convolutions start from a learned 4 x 4 constant, and the RGB outputs of all scales
are summed. The mapping network reads the sentence embedding. The noise inputs are left out, so that
a picture is a function of seed and prompt. The generator draws its trained size only.

Modulation scales the input channels of a convolution with shared weights W by the style s, and
demodulation scales its output channels by d_o = (sum_i s_i^2 sum_k W_oik^2)^(-1/2). This is the
same function as a convolution with other weights for each sample.

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

from dnnlib.bounds import AtLeastOne, check_bounds
from networks.generators.native import NativeGenerator
from networks.generators.style import Output, StyleGenerator, StyleOptions, to_output
from networks.interfaces import Codes
from networks.layers.conv import low_pass
from networks.layers.linear import EqualLinear
from networks.layers.scale_widths import scale_widths
from torch_utils.ops.modulated_linear.reference import DEMODULATION_EPS, LEAKY_GAIN, LEAKY_SLOPE


@dataclass(frozen=True, kw_only=True)
class Stylegan2Config(StyleOptions):
    """Config of the StyleGAN2 generator.

    The defaults are the paper's config F at 256 x 256 and full width, with 30.0 M parameters;
    channel_base = 16384 is half the width.

    resolution: side of the pictures, a power of two.
    sentence_dim: width of the sentence embedding; 0 = unconditional.
    style_dim: width of z and of the style code.
    mapping_layers: layers of the mapping network.
    channel_base, channel_max: scale s has min(channel_base / s, channel_max) channels.
    output: see `to_output`.
    """

    kind: ClassVar[str] = "stylegan2"
    any_view: ClassVar[bool] = False
    word_dim: ClassVar[int] = 0  # word features are not used

    resolution: int = 256
    sentence_dim: int = 0
    style_dim: AtLeastOne = 512
    mapping_layers: AtLeastOne = 8
    channel_base: int = 32768
    channel_max: int = 512
    output: Output = "linear"

    def __post_init__(self) -> None:
        check_bounds(self, "generator.")
        scale_widths("generator", self.resolution, self.channel_base, self.channel_max)

    def build(self) -> Stylegan2:
        return Stylegan2(self)


def upsample(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """x [N, C, H, W] -> [N, C, 2H, 2W]: insert zeros, then filter with 4 times `kernel` [4, 4]."""
    channels = x.shape[1]
    weight = (kernel * 4).to(x.dtype).expand(channels, 1, -1, -1)
    return functional.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


class ModulatedConv2d(nn.Module):
    """x [N, C, H, W] and style [N, d] -> [N, O, H, W], or [N, O, 2H, 2W] with `up`.

    up: upsample by a transposed convolution of stride 2 and a low-pass filter after it.
    demodulate: normalise each output channel to unit variance.
    activate: apply a leaky ReLU with gain sqrt(2).
    weight_init: standard deviation of the weights at the start.
    """

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
            transposed = weight.to(x.dtype).transpose(0, 1)
            x = functional.conv_transpose2d(x, transposed, stride=2)  # [N, O, 2H + 1, 2W + 1]
            kernel = (self.filter * 4).to(x.dtype).expand(x.shape[1], 1, -1, -1)
            x = functional.conv2d(x, kernel, padding=1, groups=x.shape[1])
        if self.demodulate:
            # A sum of products, because autocast would round a matrix product to bf16.
            energy = weight.square().sum(dim=(2, 3))  # [O, C]
            norm = (style.square().unsqueeze(1) * energy).sum(dim=2)  # [N, O]
            x = x * (norm + DEMODULATION_EPS).rsqrt()[:, :, None, None].to(x.dtype)
        x = x + self.bias[:, None, None].to(x.dtype)
        return functional.leaky_relu(x, LEAKY_SLOPE) * LEAKY_GAIN if self.activate else x


class SkipBlock(nn.Module):
    """The layers of one scale: two convolutions, the first with upsampling, and an RGB output.

    x [N, C, H, W], rgb [N, 3, H, W] and style [N, d] -> x [N, O, 2H, 2W], rgb [N, 3, 2H, 2W]. The
    RGB output is added to the upsampled `rgb` of the scale before. With `first` (the 4 x 4 scale)
    there is one convolution without upsampling, and `rgb` is None.
    """

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
        new_rgb = self.to_rgb(x, style)
        return x, new_rgb if rgb is None else upsample(rgb, self.filter) + new_rgb


class Stylegan2(NativeGenerator, StyleGenerator):
    """z [N, 1, d] and text -> pictures [N, 3, R, R], with R = `config.resolution`."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__(config)
        widths_by_scale = scale_widths(
            "generator", config.resolution, config.channel_base, config.channel_max
        )
        widths = list(widths_by_scale.values())
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
