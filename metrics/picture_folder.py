"""A plain folder of pictures, from any model or none: what `calc --images` scores and `--ref` compares with.

Pictures are taken in the order of their paths. Captions are optional: a `captions.jsonl` or a NAME.txt beside each, as
`dataset_tool.py folder` reads them. `pictures.json`, which `calc_metrics.py gen` writes, names the data set item of each.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets.archive import PICTURE_ERRORS
from datasets.folder import CAPTIONS_FILE, PICTURE_SUFFIXES, ImportReport, find_sources, load_rgb
from datasets.text_image import Record
from dnnlib.errors import UserError
from dnnlib.files import read_json, sha256_of

ORIGIN_FILE = "pictures.json"


class PictureFolder:
    """Raises `UserError` for a folder without pictures and, when read, for one that is damaged or of another size."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such folder of pictures")
        found = (p for p in self.path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
        self._files = sorted(found, key=lambda p: p.relative_to(self.path).as_posix())
        if not self._files:
            raise UserError(f"{self.path}: no pictures in it (looked for {', '.join(sorted(PICTURE_SUFFIXES))})")
        self.name = self.path.resolve().name
        self.resolution = self._load(0).size

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        """Image uint8 [3, H, W], captions (none where there are none), path below the folder."""
        picture = self._load(index)
        if picture.size != self.resolution:
            size, first = ("{}x{}".format(*s) for s in (picture.size, self.resolution))
            raise UserError(f"{self._files[index]} is {size}, but {self._files[0].name} is {first}; all pictures of a folder "
                            "must have one size: prepare them with dataset_tool.py folder")
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        return Record(pixels, self.captions(index), self.id(index))

    def id(self, index: int) -> str:
        """The path below the folder, with forward slashes."""
        return self._files[index].relative_to(self.path).as_posix()

    def captions(self, index: int) -> tuple[str, ...]:
        """Of one picture; () where there are none."""
        return self._captions.get(self.id(index), ())

    def item(self, index: int) -> str | None:
        """The id of the data set item whose caption made the picture, where `gen` wrote it down."""
        return self._items.get(self.id(index))

    @functools.cached_property
    def content_hash(self) -> str:
        """sha256 over the paths and contents of all pictures and of the captions."""
        digest = hashlib.sha256()
        for index, file in enumerate(self._files):
            digest.update(f"{self.id(index)}\0{sha256_of(file)}\0{self.captions(index)!r}\n".encode())
        return digest.hexdigest()

    @functools.cached_property
    def _captions(self) -> dict[str, tuple[str, ...]]:
        if not (self.path / CAPTIONS_FILE).is_file() and not self._files[0].with_suffix(".txt").is_file():
            return {}
        return {source.id: source.captions for source in find_sources(self.path, ImportReport())}

    @functools.cached_property
    def _items(self) -> dict[str, str]:
        path = self.path / ORIGIN_FILE
        items = read_json(path).get("items", {}) if path.is_file() else {}
        return items if isinstance(items, dict) else {}

    def _load(self, index: int) -> Image.Image:
        try:
            return load_rgb(self._files[index])
        except PICTURE_ERRORS as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self._files[index]} is not a readable picture ({reason}); remove it or make it again") from None
