"""Minibatch discrimination: what likeness to other samples of its group adds to a logit."""

from __future__ import annotations

import torch
from torch import nn

from networks.layers.minibatch_stddev import group_of

_WIDTH = 4  # of the space in which a kernel measures distance


class Comparison(nn.Module):
    """Features q [N, C] of the samples -> [N, 1] (Salimans et al. 2016, section 3.2).

    With T_b learned [4, C] for each of B = `kernels`, c_ib is the mean over the other samples j of
    i's group of exp(-|T_b q_i - T_b q_j|_1); the output is sum_b v_b c_ib, with v small at
    first. Groups are `group_size` consecutive samples (see `group_of`); one sample alone has
    nothing to compare: 0.
    """

    def __init__(self, channels: int, kernels: int, group_size: int) -> None:
        super().__init__()
        self.kernels, self.group_size = kernels, group_size
        self.project = nn.Linear(channels, kernels * _WIDTH, bias=False)
        self.weight = nn.Parameter(torch.randn(kernels) * 0.1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        group = group_of(len(features), self.group_size)
        projected = self.project(features).view(-1, group, self.kernels, _WIDTH)
        apart = projected[:, :, None] - projected[:, None]
        # |apart|: the second derivative of abs is a ZeroTensor, which tensor subclasses do not add.
        distance = torch.maximum(apart, -apart).sum(dim=4)
        others = (-distance).exp().sum(dim=2) - 1  # without the sample's likeness to itself
        return (others * self.weight).sum(dim=2).view(-1, 1) / max(group - 1, 1)
