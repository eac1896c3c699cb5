"""What is scored: a generator with its text encoder, or a folder of finished pictures from any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dnnlib.errors import UserError
from metrics.pictures.image_sets import ImageSet
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.specifications import Pictures
from networks.interfaces import Generator, TextEncoder
from torch_utils.rng import generator_for


@dataclass(frozen=True)
class Subject:
    """A generator on its device, the text encoder it was trained with, its trained resolution.

    encoder: None for a generator that was trained without one. encoder_spec is the string that
    `load_encoder` takes; sha256 that of the snapshot, None for weights in memory. trained_with: id
    of the encoder that the loss asked, which a generator that reads no text has as well.
    """

    generator: Generator
    encoder: TextEncoder | None
    encoder_spec: str
    resolution: int
    sha256: str | None = None
    trained_with: str = ""

    @property
    def encoder_id(self) -> str | None:
        return self.encoder.id if self.encoder else self.trained_with or None

    def identity(self) -> dict[str, Any]:
        """The fields of a record that say what was scored."""
        return {"snapshot_sha256": self.sha256, "text_encoder": self.encoder_id}


@dataclass(frozen=True)
class FolderSubject:
    """Pictures that are there already; a protocol takes all of them or a seeded draw over all."""

    folder: PictureFolder

    @property
    def resolution(self) -> int:
        width, height = self.folder.resolution
        if width != height:
            raise UserError(f"{self.folder.path}: pictures are {width}x{height}; protocols are defined on squares")
        return width

    @property
    def encoder_id(self) -> str | None:
        """Of the network that made the pictures, where `gen` wrote it down."""
        return self.folder.origin.get("text_encoder")

    def identity(self) -> dict[str, Any]:
        """The fields of a record that say what was scored."""
        return {"images": {"name": self.folder.name, "content_hash": self.folder.content_hash, "num_files": len(self.folder)},
                "text_encoder": self.encoder_id}

    def files(self, pictures: Pictures) -> list[int]:
        """Which files are scored: all, in the order of their paths, or a seeded draw over all.

        A larger draw begins with the smaller one. Raises `UserError` where the folder has fewer.
        """
        wanted, total = pictures.num_images, len(self.folder)
        if wanted > total:
            raise UserError(f"{self.folder.path} has {total} pictures, the protocol takes "
                            f"{wanted}; pass --num-images {total}, and the record will say so")
        if wanted == total:
            return list(range(total))
        order = torch.randperm(total, generator=generator_for("folder order", pictures.seed))
        return order[:wanted].tolist()

    def drawn(self, pictures: Pictures) -> dict[str, Any]:
        """The field of a record that says which files were scored; seed None: all of them."""
        wanted, total = pictures.num_images, len(self.folder)
        return {"pictures": wanted, "of": total, "seed": pictures.seed if wanted < total else None}

    def image_set(self, pictures: Pictures, items: Sequence[int] | None) -> ImageSet:
        """The scored files. `items`: those of the data set whose captions made them; where they are
        not known, pictures with one caption are an item.
        """
        files = self.files(pictures)
        prompts = tuple((self.folder.captions(file) or ("",))[0] for file in files)
        if items is None:
            keys = [prompt or self.folder.id(file)
                    for prompt, file in zip(prompts, files, strict=True)]
            number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
            items = [number[key] for key in keys]
        return ImageSet(tuple(items), prompts, tuple(range(len(files))))
