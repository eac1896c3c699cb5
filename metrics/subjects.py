"""What is scored: a generator with its text encoder, or a folder of finished pictures from any model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dnnlib.errors import UserError
from metrics.image_sets import ImageSet
from metrics.picture_folder import PictureFolder
from networks.interfaces import Generator, TextEncoder


@dataclass(frozen=True)
class Subject:
    """A generator on its device, the text encoder it was trained with, its trained resolution.

    encoder: None for a generator that was trained without one. encoder_spec is the string that
    `load_encoder` takes; sha256 that of the snapshot, None for weights in memory.
    """

    generator: Generator
    encoder: TextEncoder | None
    encoder_spec: str
    resolution: int
    sha256: str | None = None

    @property
    def encoder_id(self) -> str | None:
        return self.encoder.id if self.encoder else None

    def identity(self) -> dict[str, Any]:
        """The fields of a record that say what was scored."""
        return {"snapshot_sha256": self.sha256, "text_encoder": self.encoder_id}


@dataclass(frozen=True)
class FolderSubject:
    """Pictures that are there already; picture i of a protocol is file i of the folder."""

    folder: PictureFolder

    @property
    def resolution(self) -> int:
        width, height = self.folder.resolution
        if width != height:
            raise UserError(f"{self.folder.path}: pictures are {width}x{height}; protocols are defined on squares")
        return width

    @property
    def encoder_id(self) -> str | None:
        return None

    def identity(self) -> dict[str, Any]:
        """The fields of a record that say what was scored."""
        return {"images": {"name": self.folder.name, "content_hash": self.folder.content_hash, "num_files": len(self.folder)},
                "text_encoder": None}

    def image_set(self, num_images: int, protocol: str) -> ImageSet:
        """The first `num_images` files. Items are groups of one data set item, or of one caption.

        Raises `UserError` where the folder has fewer.
        """
        if num_images > len(self.folder):
            raise UserError(f"{self.folder.path} has {len(self.folder)} pictures, {protocol} takes {num_images}; pass --num-images "
                            f"{len(self.folder)}, and the record will say so")
        prompts = tuple((self.folder.captions(i) or ("",))[0] for i in range(num_images))
        keys = [self.folder.item(i) or prompts[i] or self.folder.id(i) for i in range(num_images)]
        number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        return ImageSet(tuple(number[key] for key in keys), prompts, tuple(range(num_images)))
