"""Convolution with equalised learning rate, whose downsampling filter is folded into the kernel.

conv 3 x 3 then a separable low-pass and stride 2 is one strided convolution with the convolved kernel: `box` (1, 1)
gives 4 x 4, `binomial` (1, 3, 3, 1) gives 6 x 6. No filter pass over the pixels, and no full-size result.
On a CPU the box filter runs before the convolution instead, which then takes fewer products.
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
    """The normalised 2-D kernel of a downsampling filter.  # [T, T]"""
    taps = torch.tensor(FILTERS[name], dtype=torch.float32)
    return torch.outer(taps, taps) / taps.sum().square()


def folding_matrix(kernel: int, down: Down) -> torch.Tensor:
    """What takes a flattened kernel to its convolution with the filter of `down`.  # [kernel ** 2, (kernel + T - 1) ** 2]"""
    unit_kernels = torch.eye(kernel * kernel).unflatten(1, (1, kernel, kernel))
    return functional.conv_transpose2d(unit_kernels, low_pass(down)[None, None]).flatten(1)


class EqualConv2d(nn.Module):
    """[N, C, H, W] -> [N, O, H, W], or half the size with `down`; kernel 1 or 3.

    activate: leaky ReLU with gain sqrt(2). scale: a factor of the result. The weights carry it, so
    it costs nothing.
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
        weight, bias = (
            self.weight * self.weight_gain,
            None if self.bias is None else self.bias * self.bias_gain,
        )
        stride, padding = self.stride, self.padding
        if self.is_box and x.device.type == "cpu":
            x, stride, padding = self._boxed(x)
        elif self.fold is not None:
            weight = (weight.flatten(2) @ self.fold).unflatten(
                2, (math.isqrt(self.fold.shape[1]), -1)
            )
        bias = None if bias is None else bias.to(x.dtype)
        y = functional.conv2d(x, weight.to(x.dtype), bias, stride, padding)
        return functional.leaky_relu(y, LEAKY_SLOPE, inplace=True) if self.activate else y

    def _boxed(self, x: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        """The input behind the box filter, with the stride and padding that are left to do.

        On a CPU the filter costs less than the products that it adds to a folded kernel: 9 instead
        of 16 a channel, or 1 instead of 4.
        """
        if self.kernel == 1:
            return functional.avg_pool2d(x, 2), 1, 0
        return functional.avg_pool2d(x, 2, stride=1, padding=1), 2, 0


class ResidualDown(nn.Module):
    """Residual block of StyleGAN2's discriminator: conv, conv and halve, beside a 1 x 1 skip.

    The result is their sum over sqrt(2). scale: a factor of the result.
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
