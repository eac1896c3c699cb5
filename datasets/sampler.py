"""The order of pictures in training: an endless sequence of seeded permutations, one an epoch.

A position is the number of pictures that training saw before. The order is a pure function of the
seed, the position and the ranks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from dnnlib.errors import UserError
from torch_utils.rng import generator_for


def item_at(position: int, num_items: int, seed: int) -> int:
    """The index, 0 to num_items - 1, of the picture at a position >= 0.

    Each epoch of `num_items` positions has every index once.
    """
    epoch, offset = divmod(position, num_items)
    return int(_permutation(num_items, seed, epoch)[offset])


@functools.lru_cache(maxsize=2)  # a batch may straddle two epochs
def _permutation(num_items: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(num_items, generator=generator_for("epoch order", seed, epoch))


class InfiniteSampler(Sampler[int]):
    """The positions of one rank, without end.

    Every global batch has B = global_batch positions, the first one from `start_images` on. Of each
    batch, rank r of W = world_size takes the positions r B / W to (r + 1) B / W - 1.
    Raises `UserError` if W does not divide B.
    """

    def __init__(
        self, global_batch: int, rank: int = 0, world_size: int = 1, start_images: int = 0
    ) -> None:
        super().__init__()
        assert 0 <= rank < world_size and start_images >= 0, (rank, world_size, start_images)
        if global_batch < 1 or global_batch % world_size:
            raise UserError(
                f"batch {global_batch}: must be a positive multiple of the number of processes, "
                f"{world_size}"
            )
        self.global_batch, self.start_images = global_batch, start_images
        self.rank, self.world_size = rank, world_size

    @property
    def rank_batch(self) -> int:
        """The number of positions of one global batch that this rank takes."""
        return self.global_batch // self.world_size

    def __iter__(self) -> Iterator[int]:
        first = self.start_images + self.rank * self.rank_batch
        while True:
            yield from range(first, first + self.rank_batch)
            first += self.global_batch
