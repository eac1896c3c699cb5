"""Pictures too large for memory, written tile by tile: a tiled BigTIFF, a Deep Zoom pyramid, a PNG.

A writer takes the tiles in the order of `Tiling.order` and keeps them in the working folder of
`dnnlib.resumable`. A killed run goes on at the first tile that is not finished there, and ends with
the same bytes as an unbroken one. `finish` puts the result in place; it may be repeated. Memory
holds a few tiles, and for PNG a strip of `STRIP_ROWS` rows.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path, writing
from dnnlib.ownership import Rule, refuse_foreign
from dnnlib.resumable import Work, sync, sync_folder
from torch_utils.pictures import png_with
from torch_utils.tiling import Tile, Tiling

STRIP_ROWS = 16
SOFTWARE = "EIDGAN"  # the mark of our TIFF files


class TileWriter(Protocol):
    """Takes the tiles of one picture; `pixels` is uint8 [h, w, 3]."""

    def put(self, tile: Tile, pixels: np.ndarray) -> None:
        """Keep a tile. It is on the disk when this returns. Raises `UserError`."""

    def finish(self) -> None:
        """Put the finished picture in its place. Raises `UserError`."""


class _Appended:
    """Encoded tiles one after the other in one file of the working folder, behind a header."""

    def __init__(self, work: Work, name: str, tiling: Tiling, header: bytes) -> None:
        self.work, self.tiling, self.header = work, tiling, header
        self.path = work.folder / name
        size = self.path.stat().st_size if self.path.exists() else None
        # A run that was killed after its end has moved the file to its place already.
        self.in_place = size is None and len(work.done) == tiling.num_tiles
        if self.in_place:
            return
        if work.done and (size is None or size < len(header) + sum(work.done)):
            raise UserError(f"{self.path} is cut short; delete {work.folder} and start again")
        with writing(self.path), open(self.path, "ab") as file:
            # What lies behind the last finished tile was cut short by a kill or by a full disk.
            file.truncate(len(header) + sum(work.done) if work.done else 0)
            if not work.done:
                file.write(header)
            sync(file)

    def append(self, data: bytes) -> None:
        with writing(self.path), open(self.path, "r+b") as file:
            file.seek(len(self.header) + sum(self.work.done))
            file.write(data)
            sync(file)
        self.work.finish_piece(len(data))

    def places(self) -> Iterator[tuple[Tile, int, int]]:
        """(tile, offset in bytes, length in bytes) of every finished tile."""
        ends = itertools.accumulate(self.work.done, initial=len(self.header))
        yield from zip(self.tiling.order(), ends, self.work.done, strict=False)


class TiffWriter(_Appended):
    """A tiled BigTIFF, 8-bit RGB, Deflate with horizontal differences; facts in ImageDescription.

    tifffile writes the header with empty places for the tiles' offsets and lengths. The tiles
    follow, and `finish` fills the places in.
    """

    def __init__(self, work: Work, target: Path, tiling: Tiling, facts: Mapping[str, str]) -> None:
        self.target = target
        super().__init__(work, "picture.tiff", tiling, _tiff_header(tiling, facts))

    def put(self, tile: Tile, pixels: np.ndarray) -> None:
        side = self.tiling.tile
        whole = np.zeros((side, side, 3), np.uint8)
        whole[: pixels.shape[0], : pixels.shape[1]] = pixels
        whole[:, 1:] -= whole[:, :-1].copy()
        self.append(zlib.compress(whole.tobytes()))

    def finish(self) -> None:
        from tifffile import TiffFile

        if self.in_place:
            return
        offsets, lengths = np.zeros((2, self.tiling.num_tiles), np.int64)
        for tile, offset, length in self.places():
            index = tile.row * self.tiling.num_columns + tile.column
            offsets[index], lengths[index] = offset, length
        with writing(self.path):
            with TiffFile(self.path, mode="r+") as tiff:
                tags = tiff.pages.first.tags
                tags["TileOffsets"].overwrite(offsets.tolist())
                tags["TileByteCounts"].overwrite(lengths.tolist())
            with open(self.path, "rb+") as file:
                sync(file)
            move_into_place(self.path, self.target, tiff_fault)


def _tiff_header(tiling: Tiling, facts: Mapping[str, str]) -> bytes:
    from tifffile import TiffWriter as Writer

    file = io.BytesIO()
    with Writer(file, bigtiff=True, byteorder="<") as tiff:
        tiff.write(
            itertools.repeat(b"", tiling.num_tiles),
            shape=(tiling.height, tiling.width, 3),
            dtype=np.uint8,
            tile=(tiling.tile, tiling.tile),
            photometric="rgb",
            compression="zlib",
            predictor=2,
            description=json.dumps(dict(facts)),
            software=SOFTWARE,
            metadata=None,
        )
    return file.getvalue()


def tiff_fault(path: Path) -> str | None:
    """The rule of ownership for files of `TiffWriter`."""
    from tifffile import TiffFile

    try:
        with library_errors(UserError), TiffFile(path) as tiff:
            ours = tiff.pages.first.tags["Software"].value == SOFTWARE
    except UserError:  # another kind of file
        ours = False
    return None if ours else f"is no TIFF file that this program made (no Software {SOFTWARE})"


def tiff_facts(path: Path) -> dict[str, str]:
    """The facts of a file of `TiffWriter`; empty for any other file."""
    from tifffile import TiffFile

    try:
        with library_errors(UserError), TiffFile(path) as tiff:
            return dict(json.loads(tiff.pages.first.description))
    except UserError:  # another kind of file
        return {}


png_fault = png_with("snapshot", "seed")  # the rule of ownership for pictures of generate.py


class PngWriter(_Appended):
    """A PNG of rows. Until the end, the tiles wait without compression in the working folder, which
    takes 3 bytes a pixel there; `finish` reads them in strips of rows.
    """

    def __init__(self, work: Work, target: Path, tiling: Tiling, facts: Mapping[str, str]) -> None:
        self.target, self.facts = target, dict(facts)
        super().__init__(work, "tiles.raw", tiling, b"")

    def put(self, tile: Tile, pixels: np.ndarray) -> None:
        self.append(pixels.tobytes())

    def finish(self) -> None:
        if self.in_place:
            return
        with atomic_path(self.target, ours=png_fault) as path, open(path, "wb") as file:
            self._write(file)

    def _write(self, file: BinaryIO) -> None:
        from PIL.PngImagePlugin import PngInfo, putchunk

        size = b"".join(side.to_bytes(4, "big") for side in (self.tiling.width, self.tiling.height))
        file.write(b"\x89PNG\r\n\x1a\n")
        putchunk(file, b"IHDR", size + bytes([8, 2, 0, 0, 0]))  # 8 bits, RGB, not interlaced
        info = PngInfo()
        for key, value in self.facts.items():
            info.add_itxt(key, value)
        for name, data, *_ in info.chunks:
            putchunk(file, name, data)
        packer = zlib.compressobj()
        for strip in self._strips():
            lines = np.ones((len(strip), 1 + strip[0].size), np.uint8)  # 1: filter Sub
            lines[:, 1:4] = strip[:, 0]
            lines[:, 4:] = (strip[:, 1:] - strip[:, :-1]).reshape(len(strip), -1)
            data = packer.compress(lines.tobytes())
            if data:
                putchunk(file, b"IDAT", data)
        putchunk(file, b"IDAT", packer.flush())
        putchunk(file, b"IEND")

    def _strips(self) -> Iterator[np.ndarray]:
        """The rows of the picture, uint8 [at most STRIP_ROWS, width, 3] at a time."""
        offsets = {(tile.row, tile.column): offset for tile, offset, _ in self.places()}
        side, width = self.tiling.tile, self.tiling.width
        with open(self.path, "rb") as file:
            last = 0
            while last < self.tiling.height:
                first = last
                last = min(first + STRIP_ROWS, self.tiling.height, (first // side + 1) * side)
                strip = np.empty((last - first, width, 3), np.uint8)
                for column in range(self.tiling.num_columns):
                    part = strip[:, column * side : (column + 1) * side]
                    file.seek(offsets[first // side, column] + first % side * part[0].size)
                    part[:] = np.frombuffer(file.read(part.size), np.uint8).reshape(part.shape)
                yield strip


def move_into_place(source: Path, target: Path, ours: Rule) -> None:
    """Rename a synced file or folder of the working folder to `target`. A folder of ours that lies
    there is deleted before. Raises `UserError`.
    """
    refuse_foreign(target, ours)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    os.replace(source, target)
    sync_folder(source.parent)
    sync_folder(target.parent)
