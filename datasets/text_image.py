"""`TextImageDataset`: the pictures and captions of a data set, by index.

The data set is a zip or a folder that `dataset_tool.py` or StyleGAN's tools wrote. Images are uint8
[3, H, W], 0 to 255, sRGB. `datasets/loader.py` chooses captions and flips pictures.
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
    """One picture. image: uint8 [3, H, W]. captions: empty in a data set without captions."""

    image: torch.Tensor
    captions: tuple[str, ...]
    id: str


class TextImageDataset(Dataset):
    """The pictures of one split of a data set. Safe in forked and spawned loader workers.

    path: a zip archive or a prepared folder. split: 'train', 'test' or 'all'.
    labels: how to make captions of class labels, in archives of StyleGAN's tools.
    Raises `UserError` for a path that is no data set and a split without pictures. `__getitem__`
    raises it for a picture that is damaged or does not have the size in `dataset.json`.
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
        self.splits = frozenset(entry.split for entry in entries)  # of the whole archive
        # If one picture has captions, all have: `Archive.entries` checks it.
        self.has_captions = any(entry.captions for entry in entries)
        if not self._entries:
            splits = ", ".join(sorted(self.splits)) or "no pictures at all"
            remedy = (
                "dataset_tool.py folder --test-share 0.1 makes a test split"
                if split == "test"
                else "import pictures of that split as well"
            )
            raise UserError(
                f"{path}: no picture has the split {split!r} (found: {splits}); {remedy}"
            )

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        entry = self._entries[index]
        return Record(self._decode(entry), entry.captions, entry.id)

    def captions(self, index: int) -> tuple[str, ...]:
        """All captions of one picture, which is not decoded; empty in a set without captions."""
        return self._entries[index].captions

    def id(self, index: int) -> str:
        """The id of one picture, without decoding it."""
        return self._entries[index].id

    @property
    def name(self) -> str:
        """The name of the archive's file or folder, without its ending."""
        return self._archive.path.stem

    @property
    def resolution(self) -> tuple[int, int]:
        """(width, height) of every picture in pixels."""
        return self._archive.resolution

    @property
    def info(self) -> dict[str, Any]:
        """The entries of `dataset.json` without the list of pictures: source, licence and more."""
        return {key: value for key, value in self._archive.metadata.items() if key != "items"}

    @functools.cached_property
    def content_hash(self) -> str:
        """A hash of the content of the archive with all splits; see `Archive.content_hash`."""
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
