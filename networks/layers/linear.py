"""Linear layer with equalised learning rate (Karras et al. 2018, section 4.1)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from torch_utils.ops.modulated_linear.reference import LEAKY_GAIN, LEAKY_SLOPE
from torch_utils.precision import at_least_single, no_autocast


def unit_second_moment(x: torch.Tensor) -> torch.Tensor:
    """Scale x [..., C] so that the mean square over the last axis is 1."""
    return x * (x.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()


class EqualLinear(nn.Module):
    """x [..., in_features] -> [..., out_features].

    Weights are drawn from N(0, 1) and scaled by 1 / sqrt(in_features) in each forward.

    activate: apply a leaky ReLU with slope 0.2 and gain sqrt(2); the gain is folded into weight and
        bias.
    bias_init: start value of every bias.
    lr_multiplier: factor of the learning rate. The stored weight and bias are divided by it at the
        start and multiplied by it in each forward.
    weight_init: standard deviation of the scaled weight relative to 1 / sqrt(in_features); with 0
        the output starts at the bias.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activate: bool = False,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
        weight_init: float = 1.0,
    ) -> None:
        super().__init__()
        gain = LEAKY_GAIN if activate else 1.0
        self.activate = activate
        self.weight = nn.Parameter(
            torch.randn(out_features, in_features) * (weight_init / lr_multiplier)
        )
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.weight_gain = gain * lr_multiplier / math.sqrt(in_features)
        self.bias_gain = gain * lr_multiplier

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(weight [O, C], bias [O]) with all gains included: y = lrelu(x @ weight.T + bias)."""
        return self.weight * self.weight_gain, self.bias * self.bias_gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The gains are factors of addmm, so no scaled copy of the weights is made.
        y = torch.addmm(
            self.bias,
            x.flatten(0, -2),
            self.weight.t(),
            beta=self.bias_gain,
            alpha=self.weight_gain,
        )
        y = functional.leaky_relu(y, LEAKY_SLOPE, inplace=True) if self.activate else y
        return y.unflatten(0, x.shape[:-1])

    def single(self, x: torch.Tensor) -> torch.Tensor:
        """`forward` without autocast, in float32 or better.

        For inputs of few rows, where autocast would spend more time on casting the weights.
        """
        with no_autocast(x.device):
            return self(at_least_single(x))
