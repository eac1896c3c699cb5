"""Which picture comes at which position of training: an endless row of seeded permutations, one an epoch.

A position is the number of pictures that training saw before. All functions are pure in (seed, position, ranks).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from dnnlib.errors import UserError
from torch_utils.rng import generator_for


def item_at(position: int, num_items: int, seed: int) -> int:
    """Index of the picture at a position >= 0; each epoch of `num_items` positions has every index once."""
    epoch, offset = divmod(position, num_items)
    return int(_permutation(num_items, seed, epoch)[offset])


@functools.lru_cache(maxsize=2)  # a batch may straddle two epochs
def _permutation(num_items: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(num_items, generator=generator_for("epoch order", seed, epoch))


class InfiniteSampler(Sampler[int]):
    """This rank's positions, for ever.

    Of every global batch of B positions, counted from `start_images`, rank r of W owns [r B / W, (r + 1) B / W).
    Raises `UserError` when W does not divide B.
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
        """Positions of one global batch that belong to this rank."""
        return self.global_batch // self.world_size

    def __iter__(self) -> Iterator[int]:
        first = self.start_images + self.rank * self.rank_batch
        while True:
            yield from range(first, first + self.rank_batch)
            first += self.global_batch
