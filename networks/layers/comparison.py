"""Minibatch discrimination: a term of the logit for similarity to other samples of the group."""

from __future__ import annotations

import torch
from torch import nn

from networks.layers.minibatch_stddev import group_of

_WIDTH = 4  # dimensions of the space in which a kernel measures distance


class Comparison(nn.Module):
    """Features q [N, C] of the samples -> [N, 1] (Salimans et al. 2016, section 3.2).

    Each of the B = `kernels` kernels has a learned matrix T_b [4, C] and a learned weight v_b,
    which starts small. c_ib is the mean of exp(-|T_b q_i - T_b q_j|_1) over the samples j != i of
    the group of sample i. The output is sum_b v_b c_ib. Groups are `group_size` consecutive samples
    (see `group_of`). The output is 0 for a group of one sample.
    """

    def __init__(self, channels: int, kernels: int, group_size: int) -> None:
        super().__init__()
        self.kernels, self.group_size = kernels, group_size
        self.project = nn.Linear(channels, kernels * _WIDTH, bias=False)
        self.weight = nn.Parameter(torch.randn(kernels) * 0.1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        group = group_of(len(features), self.group_size)
        projected = self.project(features).view(-1, group, self.kernels, _WIDTH)
        difference = projected[:, :, None] - projected[:, None]
        # maximum(x, -x) instead of abs(x): the second derivative of abs is a ZeroTensor, which
        # tensor subclasses cannot add.
        distance = torch.maximum(difference, -difference).sum(dim=4)
        others = (-distance).exp().sum(dim=2) - 1  # 1 is the similarity of a sample to itself
        return (others * self.weight).sum(dim=2).view(-1, 1) / max(group - 1, 1)
