"""A folder of finished pictures, from any model, as what is scored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from metrics.pictures.image_sets import ImageSet
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.reading import Compute, read_batches
from metrics.pictures.specifications import Pictures
from metrics.pictures.subject import Choose, Views
from networks.interfaces import ImageTextEncoder
from torch_utils.rng import generator_for

_OF_NETWORK = ("snapshot_sha256", "text_noise", "samples")  # fields of `gen` about the network
_OF_PROMPTS = ("split", "captions", "seeds_per_prompt")  # fields of `Pictures` about the prompts


@dataclass(frozen=True)
class FolderSubject:
    """An evaluation takes all pictures of the folder, or a seeded draw over all of them."""

    folder: PictureFolder

    takes_prompts_from_data = False
    encoder = None

    @property
    def resolution(self) -> int:
        """Raises `UserError` for pictures that are not square."""
        width, height = self.folder.resolution
        if width != height:
            raise UserError(
                f"{self.folder.path}: pictures are {width}x{height}; evaluations are defined on "
                "squares"
            )
        return width

    @property
    def encoder_id(self) -> str | None:
        """The encoder of the network that made the pictures, if `gen` wrote it down."""
        return self.folder.origin.get("text_encoder")

    def identity(self) -> dict[str, Any]:
        images = {
            "name": self.folder.name,
            "content_hash": self.folder.content_hash,
            "num_files": len(self.folder),
        }
        origin = self.folder.origin
        known = {name: origin[name] for name in _OF_NETWORK if name in origin}
        return {"images": images, "text_encoder": self.encoder_id} | known

    def loaded_encoders(self) -> Mapping[str, ImageTextEncoder]:
        return {}

    def made_with(
        self, seed: int | None, truncation: float | None
    ) -> tuple[int | None, float | None]:
        """What `gen` wrote down, where it made the pictures; else what the user asked for."""
        known = self.folder.made_with
        return known.get("seed", seed), known.get("truncation", truncation)

    def trained_with(self, encoder_id: str) -> bool | None:
        return encoder_id == self.encoder_id if self.folder.origin else None

    def files(self, pictures: Pictures) -> list[int]:
        """The numbers of the scored files: all in the order of their paths, or a seeded draw.

        A larger draw begins with the smaller one. Raises `UserError` if the folder has fewer.
        """
        wanted, total = pictures.num_images, len(self.folder)
        if wanted > total:
            raise UserError(
                f"{self.folder.path} has {total} pictures, the evaluation takes {wanted}; pass "
                f"--num-images {total}, and the record will say so"
            )
        if wanted == total:
            return list(range(total))
        order = torch.randperm(total, generator=generator_for("folder order", pictures.seed))
        return order[:wanted].tolist()

    def drawn(self, pictures: Pictures) -> dict[str, Any]:
        """How many of the files were scored. The seed is None if all of them were.

        `made_for` says which prompts `gen` took, where the evaluation asks for others.
        """
        wanted, total = pictures.num_images, len(self.folder)
        seed = pictures.seed if wanted < total else None
        fields: dict[str, Any] = {"drawn": {"pictures": wanted, "of": total, "seed": seed}}
        known = self.folder.made_with
        other = {
            name: known[name]
            for name in _OF_PROMPTS
            if name in known and known[name] != getattr(pictures, name)
        }
        return fields | ({"made_for": other} if other else {})

    def image_set(self, pictures: Pictures, dataset: TextImageDataset | None) -> ImageSet:
        """The scored files with the items of the data set whose captions made them.

        If the items are not known, pictures with the same caption count as one item.
        """
        files = self.files(pictures)
        prompts = tuple((self.folder.captions(file) or ("",))[0] for file in files)
        seeds = tuple(range(len(files)))
        items = None if dataset is None else self._items(files, dataset)
        if items is not None:
            return ImageSet(tuple(items), prompts, seeds)
        keys = [prompt or self.folder.id(file) for prompt, file in zip(prompts, files, strict=True)]
        number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        return ImageSet(tuple(number[key] for key in keys), prompts, seeds, from_split=False)

    def batches(
        self, pictures: Pictures, choose: Choose, share: range, compute: Compute, large: int
    ) -> Iterator[torch.Tensor]:
        if pictures.sight != "native":
            raise _not_rendered()
        files = self.files(pictures)
        yield from read_batches(
            lambda index: self.folder[files[index]].image,
            share,
            compute,
            f"pictures of {self.folder.name}",
        )

    def render(
        self,
        pictures: Pictures,
        choose: Choose,
        share: range,
        view: Views,
        compute: Compute,
        tile_px: int | None = None,
    ) -> Iterator[torch.Tensor]:
        raise _not_rendered()

    def evaluating(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _items(self, files: list[int], dataset: TextImageDataset) -> list[int] | None:
        """The index in the split of the item behind each file; None if one of them is unknown.

        It is the item that `gen` wrote down, or else the first one with the caption of the picture.
        """
        by_id = {dataset.id(index): index for index in range(len(dataset))}
        by_caption: dict[str, int] = {}
        for index in range(len(dataset)):
            for caption in dataset.captions(index):
                by_caption.setdefault(caption, index)
        items = []
        for file in files:
            item = by_id.get(self.folder.item(file) or "")
            captions = self.folder.captions(file)
            if item is None and captions:
                item = by_caption.get(captions[0])
            if item is None:
                return None
            items.append(item)
        return items


def _not_rendered() -> UserError:
    return UserError(
        "this evaluation renders at other sizes, which a folder of pictures cannot; give --network"
    )
