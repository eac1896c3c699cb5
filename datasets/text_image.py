"""`TextImageDataset`: pictures of one size, with captions or without, of a zip or a folder that
`dataset_tool.py` or StyleGAN's tools made.

Shapes: images are uint8 [3, H, W], 0 to 255, sRGB. Caption choice and flips: `datasets/loader.py`.
"""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.archive import Entry
from datasets.picture_files import PictureError, load_stored
from datasets.stylegan import NO_CAPTIONS, LabelCaptions, open_archive
from dnnlib.errors import UserError


class Record(NamedTuple):
    """One picture: image uint8 [3, H, W], all its captions (none in a data set without), its id."""

    image: torch.Tensor
    captions: tuple[str, ...]
    id: str


class TextImageDataset(Dataset):
    """The pictures of one split of a zip archive or a prepared folder. Safe in forked and spawned loader workers.

    labels: how captions are made of class labels, in archives that StyleGAN's tools wrote.
    Raises `UserError` for a file that is no data set, a split without pictures, and, when read, for a picture that is
    damaged or has another size than `dataset.json` says.
    """

    def __init__(
        self, path: str | os.PathLike, *, split: str = "train", labels: LabelCaptions = NO_CAPTIONS
    ) -> None:
        if split not in ("train", "test", "all"):
            raise UserError(f"split {split!r}: expected train, test or all")
        self._archive = open_archive(path, labels)
        entries = self._archive.entries()
        self._entries = [entry for entry in entries if split in ("all", entry.split)]
        self.split = split
        self.splits = frozenset(entry.split for entry in entries)  # all that the archive has
        self.has_captions = any(entry.captions for entry in entries)  # then all of them have
        if not self._entries:
            found = ", ".join(sorted({entry.split for entry in entries})) or "no pictures at all"
            remedy = (
                "dataset_tool.py folder --test-share 0.1 makes a test split"
                if split == "test"
                else "import pictures of that split as well"
            )
            raise UserError(
                f"{path}: no picture has the split {split!r} (found: {found}); {remedy}"
            )

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        entry = self._entries[index]
        return Record(self._decode(entry), entry.captions, entry.id)

    def captions(self, index: int) -> tuple[str, ...]:
        """All captions of one picture, without decoding it; empty where the data set has none."""
        return self._entries[index].captions

    def id(self, index: int) -> str:
        """The id of one picture, without decoding it."""
        return self._entries[index].id

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return self._archive.path.stem

    @property
    def resolution(self) -> tuple[int, int]:
        """(width, height) of every picture."""
        return self._archive.resolution

    @property
    def info(self) -> dict[str, Any]:
        """What `dataset.json` says of the whole: source, licence, attribution, resize filter and the like."""
        return {key: value for key, value in self._archive.metadata.items() if key != "items"}

    @functools.cached_property
    def content_hash(self) -> str:
        """Names the whole archive (all splits) by its content, not its path; see `Archive.content_hash`."""
        return self._archive.content_hash()

    def _decode(self, entry: Entry) -> torch.Tensor:
        where = f"{self._archive.path}: {entry.file}"
        try:
            mode, pixels = load_stored(self._archive.read(entry.file), where)
        except PictureError as error:
            raise UserError(f"{error}; make the data set again") from None
        height, width = pixels.shape[:2]
        if (width, height) != self.resolution or mode not in self._archive.modes:
            modes = " or ".join(self._archive.modes)
            raise UserError(
                f"{where} is {mode} {width}x{height}, but the data set has {modes} "
                f"{self.resolution[0]}x{self.resolution[1]}; make the data "
                "set again"
            )
        if mode == "L":
            pixels = np.stack([pixels] * 3, axis=2)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
