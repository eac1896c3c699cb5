"""`TextImageDataset`: the pictures and captions of a data set, by index.

The data set is a zip or a folder that `dataset_tool.py` or StyleGAN's tools wrote. Images are uint8
[3, H, W], 0 to 255, sRGB. `datasets/loader.py` chooses captions and flips pictures.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import os
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.archive import Entry
from datasets.patches import FRAME, cut
from datasets.picture_files import PictureError, load_stored
from datasets.stylegan import NO_CAPTIONS, LabelCaptions, open_archive
from dnnlib.errors import UserError
from dnnlib.names import listing, printable


class Record(NamedTuple):
    """One picture. image: uint8 [3, H, W]. captions: empty in a data set without captions."""

    image: torch.Tensor
    captions: tuple[str, ...]
    id: str


class TextImageDataset(Dataset):
    """The pictures of one split of a data set. Safe in forked and spawned loader workers.

    path: a zip archive or a prepared folder. split: 'train', 'test' or 'all'.
    labels: how to make captions of class labels, in archives of StyleGAN's tools.
    native: whether the pictures may differ in size; `resolution` raises `UserError` then.
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
        self.split, self._frame = split, 0
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
        return printable(self._archive.path.stem)

    @property
    def title(self) -> str:
        """What the data set holds, in words."""
        return f"{len(self)} pictures of {self.name}"

    @property
    def native(self) -> bool:
        return self._archive.native and not self._frame

    @property
    def resolution(self) -> tuple[int, int]:
        """(width, height) of every picture in pixels. Raises `UserError` where sizes differ."""
        return (self._frame, self._frame) if self._frame else self._archive.resolution

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of one picture in pixels, without decoding it."""
        return (self._frame, self._frame) if self._frame else self._entries[index].size

    @property
    def least_side(self) -> int:
        """The shortest side of all pictures in pixels."""
        return min(min(self.size(index)) for index in range(len(self)))

    def framed(self, side: int) -> TextImageDataset:
        """The same pictures, each cut to the square in its middle and shrunk to `side` pixels.

        Raises `UserError` if a picture is smaller than that.
        """
        small = [entry.file for entry in self._entries if min(entry.size) < side]
        if small:
            raise UserError(
                f"{self._archive.path}: {len(small)} of {len(self)} pictures have fewer than "
                f"{side} pixels on their short side ({listing(small)}); leave them out "
                f"(dataset_tool.py folder --resolution {side}x{side} --transform none)"
            )
        framed = copy.copy(self)
        framed._frame = side
        framed.__dict__.pop("content_hash", None)
        return framed

    @property
    def info(self) -> dict[str, Any]:
        """The entries of `dataset.json` without the list of pictures: source, licence and more."""
        return {key: value for key, value in self._archive.metadata.items() if key != "items"}

    @functools.cached_property
    def content_hash(self) -> str:
        """A hash of the content of the archive with all splits; see `Archive.content_hash`."""
        content = self._archive.content_hash()
        if not self._frame:
            return content
        return hashlib.sha256(f"{content} framed at {self._frame}".encode()).hexdigest()

    def _decode(self, entry: Entry) -> torch.Tensor:
        place = f"{self._archive.path}: {entry.file}"
        try:
            mode, pixels = load_stored(self._archive.read(entry.file), place)
        except PictureError as error:
            raise UserError(f"{error}; make the data set again") from None
        height, width = pixels.shape[:2]
        if (width, height) != entry.size or mode not in self._archive.modes:
            modes = " or ".join(self._archive.modes)
            raise UserError(
                f"{place} is {mode} {width}x{height}, but the data set has {modes} "
                f"{entry.size[0]}x{entry.size[1]}; make the data set again"
            )
        if mode == "L":
            pixels = np.stack([pixels] * 3, axis=2)
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return cut(image, FRAME, self._frame) if self._frame else image
