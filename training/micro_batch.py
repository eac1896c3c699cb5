"""`MicroBatch`: the rows of a step's batch that one forward pass processes, and their draws.

`HeldMicroBatch` holds them in tensors that stay in place from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

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


class HeldMicroBatch(MicroBatch):
    """A micro batch whose tensors and draws stay at the same addresses, for CUDA graphs.

    It starts with copies of the tensors of `micro`. The first request for random numbers draws
    them; `refill` draws them again for another step.
    """

    def __init__(self, micro: MicroBatch) -> None:
        text, patches = micro.text, micro.patches
        if text is not None:
            text = TextFeatures(*(getattr(text, f.name).clone() for f in fields(text)))
        if patches is not None:
            patches = replace(patches, boxes=patches.boxes.clone())
        super().__init__(micro.images.clone(), text, micro.rows, micro.batch, micro.stream, patches)
        self._source = micro
        self._draws: dict[tuple[str, str, tuple[int, ...]], torch.Tensor] = {}

    def refill(self, micro: MicroBatch) -> None:
        """Take over the pictures, their places, the texts and the random streams of a micro batch.

        All shapes must be those of the first micro batch.
        """
        self._source = micro
        self.images.copy_(micro.images)
        if self.text is not None and micro.text is not None:
            for f in fields(self.text):
                getattr(self.text, f.name).copy_(getattr(micro.text, f.name))
        if self.patches is not None and micro.patches is not None:
            self.patches.boxes.copy_(micro.patches.boxes)
        for (kind, purpose, shape), values in self._draws.items():
            values.copy_(self._drawn(kind, purpose, shape))

    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        return self._held("normal", purpose, tuple(shape))

    def uniform(self, purpose: str, width: int) -> torch.Tensor:
        return self._held("uniform", purpose, (width,))

    def large_normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        return self._held("large_normal", purpose, tuple(shape))

    def _held(self, kind: str, purpose: str, shape: tuple[int, ...]) -> torch.Tensor:
        key = kind, purpose, shape
        if key not in self._draws:
            self._draws[key] = self._drawn(*key)
        return self._draws[key].clone()  # the caller may change the numbers in place

    def _drawn(self, kind: str, purpose: str, shape: tuple[int, ...]) -> torch.Tensor:
        if kind == "uniform":
            return self._source.uniform(purpose, *shape)
        return getattr(self._source, kind)(purpose, shape)
