"""`MicroBatch`: the rows of a step's batch that one forward pass processes, and their draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from networks.interfaces import TextFeatures
from networks.patches import Patches
from torch_utils.rng import generator_for, normal_per_row
from torch_utils.tensors import to_device


@dataclass(frozen=True)
class MicroBatch:
    """The rows of a step's batch that one forward pass processes.

    images: real images [n, 3, R, R], float in [-1, 1].
    text: features of their n captions, or None.
    rows: the positions of these rows in the batch.
    batch: the number of rows in the batch of all ranks.
    stream: the name of the step's random streams (seed, "step", images seen, rollbacks).
    patches: where the real images lie in their pictures; fakes are drawn at the same places. None
        for whole pictures.
    """

    images: torch.Tensor
    text: TextFeatures | None
    rows: slice
    batch: int
    stream: tuple[int | str, ...]
    patches: Patches | None = None

    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal numbers [n, *shape] on the images' device."""
        return self._slice(
            torch.randn(self.batch, *shape, generator=generator_for(*self.stream, purpose))
        )

    def uniform(self, purpose: str, width: int) -> torch.Tensor:
        """Uniform numbers in [0, 1), [n, width], on the images' device."""
        return self._slice(
            torch.rand(self.batch, width, generator=generator_for(*self.stream, purpose))
        )

    def large_normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal numbers as in `normal`, but with one stream per row.

        Use it for large shapes: drawing all rows of the batch would cost more than many streams.
        """
        return to_device(
            normal_per_row(range(self.rows.start, self.rows.stop), shape, *self.stream, purpose),
            self.images.device,
        )

    def _slice(self, draws: torch.Tensor) -> torch.Tensor:
        """The rows of this micro batch out of draws for the whole batch."""
        return to_device(draws[self.rows], self.images.device)
