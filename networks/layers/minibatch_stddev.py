"""Minibatch standard deviation (Karras et al. 2018, section 3): one channel that shows D how varied its batch is."""

from __future__ import annotations

import torch


def group_of(num_samples: int, group_size: int) -> int:
    """`group_size`, or the largest number below it that divides the samples."""
    assert group_size >= 1
    sizes = range(min(group_size, num_samples), 0, -1)
    return next(size for size in sizes if num_samples % size == 0)


def minibatch_stddev(x: torch.Tensor, group_size: int) -> torch.Tensor:
    """[N, C, H, W] -> [N, C + 1, H, W]; statistics over groups of `group_size` consecutive samples.

    A batch that `group_size` does not divide uses the largest divisor below it.
    """
    n, _, height, width = x.shape
    group = group_of(n, group_size)
    groups = x.unflatten(0, (n // group, group)).float()
    variance = (groups - groups.mean(dim=1, keepdim=True)).square().mean(dim=1)
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [N / group]
    channel = (
        deviation.repeat_interleave(group).to(x.dtype).view(n, 1, 1, 1).expand(n, 1, height, width)
    )
    return torch.cat([x, channel], dim=1)
