"""Which pictures a protocol makes: picture i takes item order[i mod n] of the split, a seeded caption, a seeded latent.

With several seeds a prompt, so many pictures in a row share item and caption.

Pure functions of (dataset, seed, i): the same on every machine, batch size and rank count, however many are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import torch

from dnnlib.errors import UserError
from torch_utils.rng import generator_for, seed_for


class Captioned(Interface):
    """The part of `TextImageDataset` that choosing prompts needs."""

    def __len__(self) -> int: ...

    def captions(self, index: int) -> Sequence[str]: ...


@dataclass(frozen=True)
class ImageSet:
    """Row i describes generated picture i."""

    items: tuple[int, ...]    # index into the split
    prompts: tuple[str, ...]  # empty texts in a data set without captions
    seeds: tuple[int, ...]    # of the latent

    def __len__(self) -> int:
        return len(self.items)


def image_set(dataset: Captioned, *, num_images: int, seed: int,
              seeds_per_prompt: int = 1) -> ImageSet:
    """The first `num_images` pictures of seed block `seed`. A seeded order keeps small numbers representative."""
    if len(dataset) == 0:
        raise UserError("--data: the split that this protocol scores has no pictures; rebuild with a test share")
    order = torch.randperm(len(dataset), generator=generator_for("evaluation order", seed)).tolist()
    groups = [i // seeds_per_prompt for i in range(num_images)]
    items = tuple(order[group % len(order)] for group in groups)
    prompts = tuple(_draw(dataset.captions(item), "evaluation caption", seed, group)
                    for group, item in zip(groups, items, strict=True))
    seeds = tuple(seed_for("evaluation latent", seed, i) for i in range(num_images))
    return ImageSet(items, prompts, seeds)


def caption_pool(dataset: Captioned, *, seed: int) -> list[str]:
    """One seeded caption an item, in dataset order: where R-precision takes its distractors from."""
    return [_draw(dataset.captions(item), "pool caption", seed, item) for item in range(len(dataset))]


def _draw(captions: Sequence[str], *key: int | str) -> str:
    return captions[seed_for(*key) % len(captions)] if captions else ""
