"""One picture of any size in bounded memory: drawn in blocks and tiles, written tile by tile.

A block is a `View` of a part of the picture. Its lines, or whatever the generator prepares, are
computed when its first tile is drawn and dropped after its last. A pixel depends on its place
alone, so a picture of blocks equals the picture in one piece to 1e-5 (a test).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dnnlib.console import progress_bar
from dnnlib.errors import UserError
from dnnlib.ownership import refuse_foreign
from dnnlib.resumable import Work, is_workplace, resumable_work
from networks.coordinates import MAX_PICTURE_PX, MAX_SIDE_PX, View
from networks.interfaces import Codes, Generator
from networks.picture_facts import refuse_overflow
from networks.sampling import TILE_PX, tile_shape
from torch_utils.deep_zoom import (
    DeepZoomWriter,
    descriptor_fault,
    files_fault,
    folder_of,
    pyramid_facts,
)
from torch_utils.pictures import png_text
from torch_utils.tensors import to_uint8
from torch_utils.tiled_files import (
    PngWriter,
    TiffWriter,
    TileWriter,
    png_fault,
    tiff_facts,
    tiff_fault,
)
from torch_utils.tiling import Block, Tile, Tiling

Format = Literal["png", "tiff", "dzi"]
WRITERS: dict[str, Callable[[Work, Path, Tiling, Mapping[str, str]], TileWriter]] = {
    "png": PngWriter,
    "tiff": TiffWriter,
    "dzi": DeepZoomWriter,
}
RULES = {"png": png_fault, "tiff": tiff_fault, "dzi": descriptor_fault}
STORED = {"png": png_text, "tiff": tiff_facts, "dzi": pyramid_facts}
MAX_TILED_SIDE_PX = 1 << 20  # float32 tells 2^24 positions of the frame apart: 16 a pixel here
PART = ".part"
MAX_WHOLE_PX = 1 << 24  # of a PNG that is drawn in one piece; its float32 pixels take 200 MB


def check_size(width: int, height: int, kind: Format) -> None:
    """Raises `UserError` for a size that the format or float32 coordinates cannot hold."""
    if kind == "png" and (max(width, height) > MAX_SIDE_PX or width * height > MAX_PICTURE_PX):
        raise UserError(
            f"size {width}x{height}: a PNG picture has at most {MAX_SIDE_PX} pixels a side and "
            "2^30 in all; use --format tiff or dzi, or draw windows of it"
        )
    if max(width, height) > MAX_TILED_SIDE_PX:
        raise UserError(
            f"size {width}x{height}: at most {MAX_TILED_SIDE_PX} pixels a side, beyond which "
            "coordinates in float32 fall together; draw windows of it instead"
        )


def is_streamed(view: View, kind: Format) -> bool:
    """Whether a picture is drawn and written in tiles."""
    return kind != "png" or view.width * view.height > MAX_WHOLE_PX


def check_target(target: Path, kind: Format) -> None:
    """Raises `UserError` where something lies in the way of the picture or its working folder."""
    refuse_foreign(target, RULES[kind])
    if kind == "dzi":
        refuse_foreign(folder_of(target), files_fault)
    refuse_foreign(working_folder(target), is_workplace)


def working_folder(target: Path) -> Path:
    """Where the parts of an unfinished picture lie: beside it."""
    return target.with_name(target.name + PART)


def is_finished(target: Path, kind: Format, facts: Mapping[str, str]) -> bool:
    """Whether `draw_huge` with these facts, or a picture in one piece, came to its end there."""
    return not working_folder(target).exists() and STORED[kind](target) == facts


def part_of(view: View, rows: slice, columns: slice) -> View:
    """The view of these rows and columns of a view: the same samples to the last bit of float32,
    but where the bounds of the part are rounded (once in about 2^28 samples).
    """
    assert view.convention == "centers"
    x0, y0, x1, y1 = view.box
    wide, high = (x1 - x0) / view.width, (y1 - y0) / view.height
    box = (
        x0 + wide * columns.start,
        y0 + high * rows.start,
        x0 + wide * columns.stop,
        y0 + high * rows.stop,
    )
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return replace(view, height=height, width=width, box=box)


@torch.no_grad()
def draw_tiles(
    generator: Generator,
    codes: Codes,
    view: View,
    tiling: Tiling,
    skip: int = 0,
    tile_px: int | None = None,
) -> Iterator[tuple[Tile, torch.Tensor]]:
    """Tiles of one picture in their order, each with its pixels [3, h, w] float32 on the CPU.

    codes: of one picture. skip: how many tiles to leave out at the start. tile_px: most pixels
    rendered at once, as in `iterate_images`.
    """
    assert len(codes) == 1 and (tiling.width, tiling.height) == (view.width, view.height)
    tile_px = tile_px or TILE_PX[codes.tokens.device.type]
    for block in tiling.blocks():
        tiles, skip = block.tiles[skip:], max(0, skip - len(block.tiles))
        if tiles:
            prepared = generator.prepare(codes, part_of(view, block.rows, block.columns))
            for tile in tiles:
                yield tile, _tile(generator, prepared, block, tile, tile_px)
            del prepared  # before the next block is prepared


def _tile(
    generator: Generator, prepared: object, block: Block, tile: Tile, tile_px: int
) -> torch.Tensor:
    height, width = tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start
    top, left = tile.rows.start - block.rows.start, tile.columns.start - block.columns.start
    high, wide = tile_shape(height, width, max(1, tile_px // generator.samples**2))
    image = torch.empty(3, height, width)
    for y in range(0, height, high):
        for x in range(0, width, wide):
            rows, columns = slice(y, min(y + high, height)), slice(x, min(x + wide, width))
            pixels = generator.render(
                prepared,
                slice(top + rows.start, top + rows.stop),
                slice(left + columns.start, left + columns.stop),
            )
            image[:, rows, columns] = pixels[0].float().cpu()
    return image


def draw_huge(
    generator: Generator,
    codes: Codes,
    view: View,
    target: Path,
    kind: Format,
    facts: Mapping[str, str],
    *,
    tiling: Tiling | None = None,
    tile_px: int | None = None,
) -> None:
    """Draw one picture to `target`, or go on where the same call was killed.

    facts: what the picture is, by name; they go into the file. A run with other facts, another size
    of tiles or another kind of device is refused. Raises `UserError` also where the disk is full or
    refuses; the tiles that are finished by then stay for the next call.
    """
    check_size(view.width, view.height, kind)
    check_target(target, kind)
    tiling = tiling or Tiling(view.width, view.height)
    command = {
        **facts,
        "format": kind,
        "tiles": f"{tiling.tile} in blocks of {tiling.block}",
        "device": codes.tokens.device.type,
    }
    folder = working_folder(target)
    with resumable_work(folder, command, tiling.num_tiles) as work:
        writer = WRITERS[kind](work, target, tiling, facts)
        done = len(work.done)
        with progress_bar(tiling.num_tiles - done, f"{target.name}, tiles") as bar:
            for tile, image in draw_tiles(generator, codes, view, tiling, done, tile_px):
                writer.put(tile, _bytes_of(image, facts))
                bar.update(1)
        writer.finish()
        work.remove()


def _bytes_of(image: torch.Tensor, facts: Mapping[str, str]) -> np.ndarray:
    """float [3, h, w] -> uint8 [h, w, 3]. Raises `UserError` for pixels that are not finite."""
    refuse_overflow(image, facts.get("prompt"), facts.get("seed"))
    return to_uint8(image).permute(1, 2, 0).contiguous().numpy()
