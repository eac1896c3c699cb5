"""A Deep Zoom pyramid, which viewers such as OpenSeadragon read tile by tile.

`NAME.dzi` describes the picture; `NAME_files/LEVEL/COLUMN_ROW.png` are the tiles, without overlap.
The last level is the picture, and a pixel of each level before it is the mean of 2 x 2 pixels, down
to level 0 of one pixel. A tile of a level is made as soon as the four tiles below it are on the
disk, from which it is read back: memory holds five tiles.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from dnnlib.errors import UserError
from dnnlib.files import make_folder, read_json, write_text, writing
from dnnlib.ownership import json_with, starting_with, whole_folder
from dnnlib.resumable import Work, sync, sync_folder
from torch_utils.tiled_files import move_into_place
from torch_utils.tiling import Tile, Tiling

FACTS = "facts.json"
_SIZES = ("width", "height", "tile")  # what it holds beside the facts of the picture
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!-- EIDGAN -->\n'
descriptor_fault = starting_with(_HEAD)  # the rule of ownership for NAME.dzi


def levels(width: int, height: int) -> list[tuple[int, int]]:
    """(width, height) of every level, from one pixel to the picture.

    Each is half of the next, rounded up.
    """
    sizes = [(width, height)]
    while sizes[-1] != (1, 1):
        wide, high = sizes[-1]
        sizes.append((-(-wide // 2), -(-high // 2)))
    return sizes[::-1]


def halved(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] -> [ceil(h / 2), ceil(w / 2), 3]: means of 2 x 2 pixels, rounded to nearest,
    halves up. An odd last row or column counts twice.
    """
    height, width, _ = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.uint16)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def folder_of(target: Path) -> Path:
    """NAME.dzi -> NAME_files"""
    return target.with_name(f"{target.stem}_files")


def _tile_names(folder: Path) -> Iterable[str]:
    if json_with(*_SIZES)(folder / FACTS):
        raise UserError(f"no {FACTS} of a Deep Zoom pyramid of this program")
    facts = read_json(folder / FACTS)
    yield FACTS
    for level, size in enumerate(levels(facts["width"], facts["height"])):
        columns, rows = (-(-side // facts["tile"]) for side in size)
        yield from (f"{level}/{x}_{y}.png" for y in range(rows) for x in range(columns))


files_fault = whole_folder(_tile_names)  # the rule of ownership for NAME_files


def pyramid_facts(target: Path) -> dict[str, str]:
    """The facts of a finished pyramid of `DeepZoomWriter`; empty for anything else."""
    if not target.exists() or files_fault(folder_of(target)):
        return {}
    stored = read_json(folder_of(target) / FACTS)
    return {name: value for name, value in stored.items() if name not in _SIZES}


class DeepZoomWriter:
    """Writes the pyramid; see the module. A `torch_utils.tiled_files.TileWriter`."""

    def __init__(self, work: Work, target: Path, tiling: Tiling, facts: Mapping[str, str]) -> None:
        self.work, self.target, self.tiling = work, target, tiling
        self.levels = levels(tiling.width, tiling.height)
        self.folder = work.folder / "files"
        about = {"width": tiling.width, "height": tiling.height, "tile": tiling.tile}
        if len(work.done) < tiling.num_tiles:
            for level in range(len(self.levels)):
                make_folder(self.folder / str(level))
            self._keep(self.folder / FACTS, json.dumps({**facts, **about}, indent=2).encode())

    def put(self, tile: Tile, pixels: np.ndarray) -> None:
        """Keep a tile and every tile above it that is complete with it. Raises `UserError`."""
        level, column, row = len(self.levels) - 1, tile.column, tile.row
        self._save(level, column, row, pixels)
        while level > 0:
            level, column, row = level - 1, column // 2, row // 2
            above = self._from_below(level, column, row)
            if above is None:
                break
            self._save(level, column, row, above)
        self.work.finish_piece(1)

    def finish(self) -> None:
        place = folder_of(self.target)
        if self.folder.exists():  # missing if an earlier run moved it and was killed afterwards
            move_into_place(self.folder, place, files_fault)
        text = (
            f'{_HEAD}<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="png" '
            f'Overlap="0" TileSize="{self.tiling.tile}">\n'
            f'  <Size Width="{self.tiling.width}" Height="{self.tiling.height}"/>\n</Image>\n'
        )
        write_text(self.target, text, ours=descriptor_fault)

    def _place(self, level: int, column: int, row: int) -> Path:
        return self.folder / str(level) / f"{column}_{row}.png"

    def _save(self, level: int, column: int, row: int, pixels: np.ndarray) -> None:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        self._keep(self._place(level, column, row), file.getvalue())

    def _keep(self, path: Path, data: bytes) -> None:
        # Not atomic: what a kill cuts short belongs to a tile that is not finished, and is written
        # again.
        with writing(path):
            with open(path, "wb") as file:
                file.write(data)
                sync(file)
            sync_folder(path.parent)

    def _from_below(self, level: int, column: int, row: int) -> np.ndarray | None:
        """The tile of this level as the means of those below; None while one of them is missing."""
        from PIL import Image

        side = self.tiling.tile
        width, height = self.levels[level + 1]
        below = [
            (x, y)
            for y in (2 * row, 2 * row + 1)
            for x in (2 * column, 2 * column + 1)
            if x * side < width and y * side < height
        ]
        paths = [self._place(level + 1, x, y) for x, y in below]
        if not all(map(os.path.exists, paths)):
            return None
        wide, high = self.levels[level]
        shape = (min(side, high - row * side), min(side, wide - column * side), 3)
        pixels = np.empty(shape, np.uint8)
        for (x, y), path in zip(below, paths, strict=True):
            with Image.open(path) as picture:
                part = halved(np.asarray(picture))
            top, left = y % 2 * (side // 2), x % 2 * (side // 2)
            pixels[top : top + part.shape[0], left : left + part.shape[1]] = part
        return pixels
