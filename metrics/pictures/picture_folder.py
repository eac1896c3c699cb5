"""A plain folder of pictures, made by any model or none.

`calc --images` scores such a folder and `calc --ref` compares with it. Pictures are numbered in the
order of their paths. Captions are optional: one `captions.jsonl`, or a NAME.txt beside each
picture, as `dataset_tool.py folder` reads them. `pictures.json`, written by `calc_metrics.py gen`,
names the item of the data set that belongs to each picture.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datasets.folder import CAPTIONS_FILE, folder_pictures
from datasets.picture_files import PictureError, load_rgb
from datasets.report import Report
from datasets.source_files import SourceFolder
from datasets.text_image import Record
from dnnlib.errors import UserError
from dnnlib.files import read_json, sha256_of
from dnnlib.names import printable

ORIGIN_FILE = "pictures.json"


class PictureFolder:
    """The pictures of a folder.

    Raises `UserError` for a folder without pictures, and on reading for a picture that is damaged
    or of another size than the first one.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such folder of pictures")
        self._source = SourceFolder(self.path)
        pictures = self._source.pictures()
        self._names = sorted(pictures)
        self._files = [pictures[name] for name in self._names]
        if not self._files:
            raise UserError(
                f"{self.path}: no pictures in it (hidden files and linked folders are left out)"
            )
        self.name = printable(self.path.resolve().name)
        self.resolution = self._load(0).size

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        """Picture uint8 [3, H, W], its captions (perhaps none), its path below the folder."""
        picture = self._load(index)
        if picture.size != self.resolution:
            size, first = ("{}x{}".format(*s) for s in (picture.size, self.resolution))
            raise UserError(
                f"{self._files[index]} is {size}, but {self._files[0].name} is {first}; all "
                "pictures of a folder must have one size: resize these, or leave them out"
            )
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        return Record(pixels, self.captions(index), self.id(index))

    def id(self, index: int) -> str:
        """The path below the folder, with forward slashes."""
        return printable(self._names[index])

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one picture; () if it has none."""
        return self._captions.get(self.id(index), ())

    def item(self, index: int) -> str | None:
        """The id of the item whose caption made the picture, if `gen` wrote it down."""
        return self._items.get(self.id(index))

    @functools.cached_property
    def content_hash(self) -> str:
        """sha256 over the paths and contents of all pictures and over the captions."""
        digest = hashlib.sha256()
        for index, file in enumerate(self._files):
            digest.update(
                f"{self.id(index)}\0{sha256_of(file)}\0{self.captions(index)!r}\n".encode()
            )
        return digest.hexdigest()

    @functools.cached_property
    def _captions(self) -> dict[str, tuple[str, ...]]:
        if (
            CAPTIONS_FILE not in self._source.files
            and not self._files[0].with_suffix(".txt").is_file()
        ):
            return {}
        return {raw.id: raw.captions for raw in folder_pictures(self.path, Report())}

    @functools.cached_property
    def origin(self) -> dict[str, Any]:
        """What `gen` wrote down about the pictures; {} for pictures of others."""
        path = self.path / ORIGIN_FILE
        origin = read_json(path) if path.is_file() else {}
        if not isinstance(origin, dict):
            return {}
        ours = all(isinstance(origin.get(key), dict) for key in ("items", "protocol"))
        return origin if ours else {}

    @functools.cached_property
    def made_with(self) -> dict[str, Any]:
        """The fields of `Pictures` with which `gen` made them; {} if they are not known."""
        pictures = self.origin.get("protocol", {}).get("pictures", {})
        return pictures if isinstance(pictures, dict) else {}

    @property
    def _items(self) -> dict[str, str]:
        return self.origin.get("items", {})

    def _load(self, index: int) -> Image.Image:
        try:
            return load_rgb(self._files[index]).picture
        except PictureError as error:
            raise UserError(f"{error}; remove it or make it again") from None
