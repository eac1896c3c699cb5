"""Minibatch standard deviation (Karras et al. 2018, section 3).

One more channel tells the discriminator how varied the samples of a group are.
"""

from __future__ import annotations

import torch


def group_of(num_samples: int, group_size: int) -> int:
    """The largest number up to `group_size` that divides the number of samples."""
    assert group_size >= 1
    sizes = range(min(group_size, num_samples), 0, -1)
    return next(size for size in sizes if num_samples % size == 0)


def minibatch_stddev(x: torch.Tensor, group_size: int) -> torch.Tensor:
    """x [N, C, H, W] -> [N, C + 1, H, W].

    The last channel is constant in a group of consecutive samples: the standard deviation over the
    group, averaged over channels and positions. Groups have `group_of(N, group_size)` samples.
    """
    n, _, height, width = x.shape
    group = group_of(n, group_size)
    groups = x.unflatten(0, (n // group, group)).float()
    variance = (groups - groups.mean(dim=1, keepdim=True)).square().mean(dim=1)
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [N / group]
    channel = deviation.repeat_interleave(group).to(x.dtype).view(n, 1, 1, 1)
    return torch.cat([x, channel.expand(n, 1, height, width)], dim=1)
