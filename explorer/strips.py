"""`Strips`: the lines of pictures, kept by zoom level, so that tiles share them.

A bi-line generator composes a pixel of a line at its y and a line at its x. A strip holds the lines
of the 256 rows or columns of a tile. All tiles of a zoom level that lie side by side share a strip,
so a whole screen of tiles needs only a few. In a rotated or warped picture, lines are read from a
table (`networks.generators.line_tables`), which all zoom levels share: a table is kept for each
tile of level 0. Networks without lines keep nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from explorer.bounded import ByteCache
from explorer.tiles import SIDE_PX, Tile
from networks.coordinates import View
from networks.exported import SYSTEMS
from networks.generators.biline import BilineState
from networks.generators.line_tables import WarpedLines
from networks.interfaces import Codes, Generator
from networks.placed_view import PlacedView
from networks.view_options import ViewOptions

WHOLE = slice(0, SIDE_PX)
Key = tuple[str, int, int]  # axis, zoom level, number of the row or column of tiles


class Strips:
    """max_bytes: of all lines that are kept."""

    def __init__(self, max_bytes: int) -> None:
        self._kept: ByteCache[Any] = ByteCache(max_bytes, _size_of)

    def share(
        self,
        picture: str,
        generator: Generator,
        codes: Codes,
        options: ViewOptions,
        tiles: Sequence[Tile],
    ) -> None:
        """Compute the lines that these tiles of one zoom level need, in one pass of the trunk.

        picture: the name of the codes and options. options: rotation and warp of the picture.
        """
        if _is_plain(generator, options):
            self._strips(picture, generator, codes, tiles)

    def draw(
        self, picture: str, generator: Generator, codes: Codes, options: ViewOptions, tile: Tile
    ) -> torch.Tensor:
        """The pixels of a tile.  # [3, 256, 256] float32 on the CPU, in [-1, 1] up to overshoot"""
        if _is_plain(generator, options):
            strips = self._strips(picture, generator, codes, [tile])
            rows, columns = (strips[axis, tile.z, n] for axis, n in (("y", tile.y), ("x", tile.x)))
            prepared: Any = replace(rows, columns=columns.columns)
        else:
            prepared = self._prepared(picture, generator, codes, options, tile)
        return generator.render(prepared, WHOLE, WHOLE)[0].float().cpu()

    def _strips(
        self, picture: str, generator: Generator, codes: Codes, tiles: Sequence[Tile]
    ) -> dict[Key, BilineState]:
        """The strips of the tiles by axis, zoom level and number; rows hold no columns."""
        points = generator.samples
        wanted = {("y", tile.z, tile.y): tile.view().scaled(points).rows() for tile in tiles}
        wanted |= {("x", tile.z, tile.x): tile.view().scaled(points).columns() for tile in tiles}
        kept = {key: self._kept.get((picture, *key)) for key in wanted}
        strips = {key: strip for key, strip in kept.items() if strip is not None}
        missing = sorted(wanted.keys() - strips.keys())
        if not missing:
            return strips
        keys = {axis: [key for key in missing if key[0] == axis] for axis in ("y", "x")}
        device = codes.tokens.device
        y, x = (
            torch.cat([wanted[key] for key in keys[axis]] or [torch.zeros(0)]).to(device)
            for axis in ("y", "x")
        )
        state = cast(BilineState, generator.prepare(codes, cast(View, PlacedView(y, x))))
        for axis, lines in (("y", state.rows), ("x", state.columns)):
            for number, key in enumerate(keys[axis]):
                part = slice(number * points * SIDE_PX, (number + 1) * points * SIDE_PX)
                pieces = tuple(level[:, part].clone() for level in lines)
                strip = replace(
                    state, rows=pieces if axis == "y" else (), columns=pieces if axis == "x" else ()
                )
                strips[key] = strip
                self._kept.put((picture, *key), strip)
        return strips

    def _prepared(
        self, picture: str, generator: Generator, codes: Codes, options: ViewOptions, tile: Tile
    ) -> Any:
        """What the generator prepares for a tile that has no strips."""
        view = replace(options.view(), height=SIDE_PX, width=SIDE_PX)
        of_tile = replace(view, box=tile.box) if view.warp else tile.view()
        if not isinstance(generator, SYSTEMS):
            return generator.prepare(codes, of_tile)
        frame = tile.frame()
        key = (picture, "table", frame.z, frame.x, frame.y)
        lines = self._kept.get(key)
        if lines is None:
            lines = cast(WarpedLines, generator.prepare(codes, replace(view, box=frame.box)))
            self._kept.put(key, lines)
        return replace(lines, view=of_tile.scaled(generator.samples))


def _is_plain(generator: Generator, options: ViewOptions) -> bool:
    return isinstance(generator, SYSTEMS) and options.view().warp is None


def _size_of(lines: BilineState | WarpedLines) -> int:
    """Bytes of a strip or of tables."""
    if isinstance(lines, WarpedLines):
        tensors = [table.values for table in lines.tables or ()]
    else:
        tensors = [*lines.rows, *lines.columns]
    if lines.weights is not None:
        tensors += [lines.weights.decoders, lines.weights.refinement]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
