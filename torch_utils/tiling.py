"""A picture cut into square tiles, and the order in which a large picture is drawn.

Tiles lie in blocks. A block is drawn tile by tile, because what all tiles of a block share (the
lines of a bi-line generator) is computed once for the block and then dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dnnlib.errors import UserError

TILE_PX, BLOCK_PX = 512, 2048


@dataclass(frozen=True)
class Tile:
    """Tile (row, column) of the picture: the pixels `rows` x `columns`, all in the same block."""

    row: int
    column: int
    rows: slice
    columns: slice


@dataclass(frozen=True)
class Block:
    """Pixels `rows` x `columns` of the picture and the tiles that they hold, row by row."""

    rows: slice
    columns: slice
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Tiling:
    """width x height pixels in tiles of `tile` x `tile`; those at the right and lower border are
    cut off there. block: side of a block, a multiple of `tile`. Raises `UserError`.
    """

    width: int
    height: int
    tile: int = TILE_PX
    block: int = BLOCK_PX

    def __post_init__(self) -> None:
        if self.tile < 16 or self.tile % 16:
            raise UserError(f"tiles of {self.tile} px: TIFF asks for a multiple of 16")
        if self.block < 1 or self.block % self.tile:
            raise UserError(f"blocks of {self.block} px: not a multiple of tiles of {self.tile}")

    @property
    def num_columns(self) -> int:
        return -(-self.width // self.tile)

    @property
    def num_rows(self) -> int:
        return -(-self.height // self.tile)

    @property
    def num_tiles(self) -> int:
        return self.num_columns * self.num_rows

    def blocks(self) -> Iterator[Block]:
        """All blocks in the order in which they are drawn, row by row."""
        for rows in _pieces(0, self.height, self.block):
            for columns in _pieces(0, self.width, self.block):
                yield Block(
                    rows,
                    columns,
                    tuple(
                        Tile(inner.start // self.tile, across.start // self.tile, inner, across)
                        for inner in _pieces(rows.start, rows.stop, self.tile)
                        for across in _pieces(columns.start, columns.stop, self.tile)
                    ),
                )

    def order(self) -> Iterator[Tile]:
        """All tiles in the order in which they are drawn."""
        for block in self.blocks():
            yield from block.tiles


def _pieces(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))
