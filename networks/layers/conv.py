"""Convolution with equalised learning rate, with the downsampling filter folded into the kernel.

A 3 x 3 convolution, a separable low-pass filter and stride 2 are together one strided convolution
with a larger kernel: 4 x 4 for the filter `box` (1, 1) and 6 x 6 for `binomial` (1, 3, 3, 1). This
saves the pass of the filter over the pixels and the result at full size. On a CPU the box filter
runs before the convolution instead, because this needs fewer multiplications.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from torch_utils.ops.modulated_linear.reference import LEAKY_GAIN, LEAKY_SLOPE

Down = Literal["box", "binomial"]
FILTERS: dict[str, tuple[float, ...]] = {"box": (1, 1), "binomial": (1, 3, 3, 1)}


def low_pass(name: Down) -> torch.Tensor:
    """The kernel [T, T] of a downsampling filter with T taps; its sum is 1."""
    taps = torch.tensor(FILTERS[name], dtype=torch.float32)
    return torch.outer(taps, taps) / taps.sum().square()


def folding_matrix(kernel: int, down: Down) -> torch.Tensor:
    """Matrix [kernel ** 2, (kernel + T - 1) ** 2] that convolves a flattened kernel with a filter.

    T is the number of taps of the filter `down`.
    """
    unit_kernels = torch.eye(kernel * kernel).unflatten(1, (1, kernel, kernel))
    return functional.conv_transpose2d(unit_kernels, low_pass(down)[None, None]).flatten(1)


class EqualConv2d(nn.Module):
    """x [N, C, H, W] -> [N, O, H, W], or [N, O, H / 2, W / 2] with `down`.

    kernel: 1 or 3.
    activate: apply a leaky ReLU with gain sqrt(2).
    down: the low-pass filter before stride 2; None keeps the size.
    scale: a factor of the result. It is part of the weight gain, so it costs nothing.
    """

    fold: torch.Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        activate: bool = True,
        bias: bool = True,
        down: Down | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        gain = scale * (LEAKY_GAIN if activate else 1.0)
        self.activate = activate
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.weight_gain, self.bias_gain = gain / math.sqrt(in_channels * kernel * kernel), gain
        self.register_buffer(
            "fold", folding_matrix(kernel, down) if down else None, persistent=False
        )
        self.stride, self.kernel, self.is_box = 2 if down else 1, kernel, down == "box"
        self.padding = kernel // 2 + (len(FILTERS[down]) // 2 - 1 if down else 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight * self.weight_gain
        bias = None if self.bias is None else (self.bias * self.bias_gain).to(x.dtype)
        stride, padding = self.stride, self.padding
        if self.is_box and x.device.type == "cpu":
            x, stride, padding = self._boxed(x)
        elif self.fold is not None:
            side = math.isqrt(self.fold.shape[1])
            weight = (weight.flatten(2) @ self.fold).unflatten(2, (side, -1))
        y = functional.conv2d(x, weight.to(x.dtype), bias, stride, padding)
        return functional.leaky_relu(y, LEAKY_SLOPE, inplace=True) if self.activate else y

    def _boxed(self, x: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        """(filtered input, stride, padding): the box filter, and what the convolution still does.

        The convolution then has 9 products a channel instead of the 16 of the folded kernel (1
        instead of 4 for kernel 1), which on a CPU saves more than the filter costs.
        """
        if self.kernel == 1:
            return functional.avg_pool2d(x, 2), 1, 0
        return functional.avg_pool2d(x, 2, stride=1, padding=1), 2, 0


class ResidualDown(nn.Module):
    """Residual block of StyleGAN2's discriminator: [N, C, H, W] -> [N, O, H / 2, W / 2].

    One path is two 3 x 3 convolutions, the second with `down`. The skip path is a 1 x 1 convolution
    with `down`. The result is their sum over sqrt(2), times `scale`.
    """

    def __init__(self, in_channels: int, out_channels: int, down: Down, scale: float = 1.0) -> None:
        super().__init__()
        scale *= math.sqrt(0.5)
        self.first = EqualConv2d(in_channels, in_channels, 3)
        self.second = EqualConv2d(in_channels, out_channels, 3, down=down, scale=scale)
        self.skip = EqualConv2d(
            in_channels, out_channels, 1, activate=False, bias=False, down=down, scale=scale
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)) + self.skip(x)
