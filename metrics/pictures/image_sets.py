"""Item, caption and latent of each scored picture.

Picture i takes item order[i mod n] of the split, where `order` is a seeded permutation, one of the
item's captions by a seeded draw, and a seeded latent. With several seeds a prompt, that many
pictures in a row share item and caption. All are pure functions of (data set, seed, i): they are
the same on every machine, for every batch size and number of ranks, and however many pictures are
asked for.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import torch

from dnnlib.errors import UserError
from torch_utils.rng import generator_for, seed_for


class Captioned(Interface):
    """The part of `TextImageDataset` that the choice of prompts needs."""

    def __len__(self) -> int: ...

    def captions(self, index: int) -> Sequence[str]: ...


@dataclass(frozen=True)
class ImageSet:
    """Position i describes scored picture i.

    - `items`: the index of the item in the split. Without `from_split` the items of the split are
      not known, and equal numbers only say that two pictures belong together.
    - `prompts`: empty texts if there are no captions.
    - `seeds`: of the latents.
    """

    items: tuple[int, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    from_split: bool = True

    def __len__(self) -> int:
        return len(self.items)

    def prompt_keys(self) -> list[Hashable]:
        """The prompt of each picture, or its item if there are no captions."""
        return [prompt or item for prompt, item in zip(self.prompts, self.items, strict=True)]


def image_set(
    dataset: Captioned, *, num_images: int, seed: int, seeds_per_prompt: int = 1
) -> ImageSet:
    """The first `num_images` pictures of seed block `seed`.

    A seeded order of the items keeps small numbers of pictures representative. Raises `UserError`
    for an empty split.
    """
    if len(dataset) == 0:
        raise UserError(
            "--data: the split that this evaluation scores has no pictures; rebuild with a test "
            "share"
        )
    stream = generator_for("evaluation order", seed)
    order = torch.randperm(len(dataset), generator=stream).tolist()
    groups = [i // seeds_per_prompt for i in range(num_images)]
    items = tuple(order[group % len(order)] for group in groups)
    prompts = tuple(
        _draw(dataset.captions(item), "evaluation caption", seed, group)
        for group, item in zip(groups, items, strict=True)
    )
    seeds = tuple(seed_for("evaluation latent", seed, i) for i in range(num_images))
    return ImageSet(items, prompts, seeds)


def caption_pool(dataset: Captioned, *, seed: int) -> list[str]:
    """One seeded caption of each item, in the order of the data set.

    R-precision takes its distractors from them.
    """
    return [
        _draw(dataset.captions(item), "pool caption", seed, item) for item in range(len(dataset))
    ]


def _draw(captions: Sequence[str], *key: int | str) -> str:
    return captions[seed_for(*key) % len(captions)] if captions else ""
