"""Batch normalisation over small groups of samples, after StyleGAN-T (Sauer et al. 2023).

y = w (x - mean) / sqrt(variance + eps) + b, with mean and variance over the samples of a group and
their positions. The layer has no running statistics. Its result does not depend on the number of
ranks or accumulation rounds, as long as a group is not split between them.
"""

from __future__ import annotations

import torch
from torch import nn

from networks.layers.minibatch_stddev import group_of


class VirtualBatchNorm(nn.Module):
    """x [N, C, H, W] -> float32 of the same shape.

    Groups are `group_of(N, group_size)` consecutive samples.
    """

    def __init__(self, channels: int, group_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.group_size, self.eps = group_size, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        group = group_of(len(x), self.group_size)
        groups = x.float().unflatten(0, (-1, group))  # [N / group, group, C, H, W]
        variance, mean = torch.var_mean(groups, dim=(1, 3, 4), correction=0, keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight[:, None, None]
        return torch.addcmul(self.bias[:, None, None] - mean * scale, groups, scale).flatten(0, 1)
