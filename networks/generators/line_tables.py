"""From the trunk of a bi-line generator to the lines of a view's pixels, also where the view is
warped.

A line is a function of one coordinate and of the sample's codes. No position of the trunk reads
another position. In an unwarped view all pixels of a row share one coordinate, so `BilineState`
holds a line a row and a line a column. In a warped view every pixel has coordinates of its own.
`WarpedLines` then reads them from a table: the lines at equally spaced coordinates, interpolated by
the cubic through the four nearest ones. The pixel part is the same in both cases.

The error of the table depends on its spacing and on the lines, which bend wherever a leaky ReLU of
the trunk changes its slope; it does not depend on the size of the pixels. So the spacing follows
from the generator's bandwidth, and the length of the table from the range of coordinates that the
view reaches. `benchmarks/line_tables.py` measures the error.

Shapes: N batch, H rows, W columns, P pixels, T length of the table, B levels, D thickness, K
channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from networks.coordinates import View
from networks.generators.biline import BilinePixels, BilineState
from networks.generators.style import Output, to_output
from torch_utils.ops.biline import PixelWeights
from torch_utils.precision import at_least_single

# Samples of a table per frame and cycle of bandwidth, and the least bandwidth that is assumed: an
# error below half an 8-bit step (docs/any_scale.md).
PER_CYCLE, MIN_CYCLES = 256, 10.0
MAX_LENGTH = 1 << 15  # of a table: 0.5 GB for both axes of the largest preset
CHUNK = 1 << 10  # positions of one axis whose lines are evaluated at once
CHUNK_PX = 1 << 12  # pixels whose lines are read from the table at once
# Pixels of a warped crop are laid out in rows of this many. A CPU composes the fewest products with
# one, a kernel for GPUs works on patches of at least 8.
ACROSS_CPU, ACROSS_GPU = 1, 16


@dataclass(frozen=True)
class LineFunction:
    """The lines of one batch of codes as a function of coordinates.

    emit: heights [(N,) H] of rows and places [(N,) W] of columns -> what each block of the trunk
    emits, [N, (H + W) * D, K], rows before columns. cycles: the generator's bandwidth, in cycles
    per frame. summed: a level composes the running sum of the lines up to it, l_n = (l_{n-1} +
    lines_n) / sqrt(2), as the released CREPS does, instead of the lines of its block (eq. 4).
    """

    emit: Callable[[torch.Tensor, torch.Tensor], Iterable[torch.Tensor]]
    cycles: float
    summed: bool

    def levels(
        self, rows: torch.Tensor, columns: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each level's lines of the rows [N, H, D, K] and of the columns [N, W, D, K].

        rows [H] or [N, H], columns [W] or [N, W]: their coordinates, of all samples or of each.
        """
        sizes = [rows.shape[-1], columns.shape[-1]]
        level: torch.Tensor | None = None
        for lines in self.emit(rows, columns):
            level = lines if level is None or not self.summed else (level + lines) * math.sqrt(0.5)
            of_rows, of_columns = level.unflatten(1, (sum(sizes), -1)).split(sizes, dim=1)
            yield of_rows, of_columns


class Lines(Protocol):
    """A prepared view of a bi-line generator."""

    def draw(self, pixels: BilinePixels, rows: slice, columns: slice) -> torch.Tensor:
        """[N, 3, h, w]: the pixels at these rows and columns of the view."""


def prepare_lines(
    lines: LineFunction,
    view: View,
    style: torch.Tensor,
    weights: PixelWeights | None,
    samples: int,
) -> Lines:
    """What `draw_pixels` needs of a view, for samples x samples points a pixel.

    style [N, d_y] of the refinement block; weights: of `BilinePixels.folded`.
    """
    view = view.scaled(samples)
    if view.warp is None:
        levels = lines.levels(view.rows(style.device), view.columns(style.device))
        rows, columns = zip(*levels, strict=True)
        return BilineState(rows, columns, style, weights)
    grid = None if view.warp.exact else Grid.over(view, lines.cycles)
    tables = None if grid is None else _tables(lines, grid, style.device)
    return WarpedLines(lines, tables, view, style, weights)


def draw_pixels(
    lines: Lines,
    pixels: BilinePixels,
    rows: slice,
    columns: slice,
    samples: int,
    output: Output,
) -> torch.Tensor:
    """The pixels at these rows and columns of a view prepared by `prepare_lines`.  # [N, 3, h, w]

    A pixel is the mean of its samples x samples points after `to_output`, so flat colours stay as
    they are and edges become smooth.
    """
    points = lines.draw(pixels, _times(rows, samples), _times(columns, samples))
    image = to_output(points, output)
    return image if samples == 1 else functional.avg_pool2d(image, samples)


def _times(part: slice, samples: int) -> slice:
    """The points of a slice of pixels, which may be open."""
    start, stop = (None if end is None else end * samples for end in (part.start, part.stop))
    return slice(start, stop)


@dataclass(frozen=True)
class Grid:
    """Where the tables of a view have their samples: columns at (first_x + t) * spacing and rows at
    (first_y + t) * spacing, t = 0 ... length - 1.

    The samples are multiples of the spacing, whatever the view. So the tables of two views hold the
    same samples where they overlap, and tiles of one picture show no seam.
    """

    first_x: int
    first_y: int
    spacing: float
    length: int

    @classmethod
    def over(cls, view: View, cycles: float) -> Grid | None:
        """cycles: the generator's bandwidth, in cycles per frame.

        None where every pixel is evaluated instead: a view of fewer pixels than a table would have
        samples, or one that reaches so far that the table would be too long. The batch does not
        matter, so that a picture does not depend on the pictures drawn with it.
        """
        x0, y0, x1, y1 = view.reach()
        spacing = 1 / (PER_CYCLE * max(cycles, MIN_CYCLES))
        length = max(x1 - x0, y1 - y0) / spacing + 5
        if not length < min(MAX_LENGTH, view.height * view.width):
            return None
        first_x, first_y = (math.floor(start / spacing) - 1 for start in (x0, y0))
        return cls(first_x, first_y, spacing, math.ceil(length))

    def samples(self, first: int, device: torch.device) -> torch.Tensor:
        """The coordinates of one table.  # [length] float32"""
        # In float64 and rounded once, so that a sample has one coordinate in all tables.
        place = "cpu" if device.type == "mps" else device
        steps = torch.arange(first, first + self.length, dtype=torch.float64, device=place)
        return (steps * self.spacing).to(torch.float32).to(device)


def _tables(lines: LineFunction, grid: Grid, device: torch.device) -> tuple[LineTable, LineTable]:
    """The tables of rows and of columns."""
    of_rows: list[torch.Tensor] = []
    of_columns: list[torch.Tensor] = []
    rows, columns = (grid.samples(first, device) for first in (grid.first_y, grid.first_x))
    for chunk in zip(rows.split(CHUNK), columns.split(CHUNK), strict=True):
        levels = lines.levels(*chunk)
        for part, lines_of_levels in zip(
            (of_rows, of_columns), zip(*levels, strict=True), strict=True
        ):
            part.append(at_least_single(torch.stack(lines_of_levels, dim=2)))
    return (
        LineTable(grid.first_y, grid.spacing, torch.cat(of_rows, dim=1)),
        LineTable(grid.first_x, grid.spacing, torch.cat(of_columns, dim=1)),
    )


@dataclass(frozen=True)
class LineTable:
    """The lines of one axis at (`first` + t) * `spacing`, t = 0 ... T - 1.

    values: [N, T, B, D, K] float32.
    """

    first: int
    spacing: float
    values: torch.Tensor

    def read(self, coordinates: torch.Tensor) -> torch.Tensor:
        """[P] -> [N, P, B, D, K]: the cubic through the four nearest samples."""
        batch, length, *shape = self.values.shape
        place = coordinates / self.spacing
        first = (place.floor() - self.first).clamp(1, length - 3) - 1
        # Exact, so that a coordinate reads the same numbers from every table that reaches it.
        u = place - (first + self.first)  # 1 ... 2, between the second and third of four samples
        a, b, c, d = u, u - 1, u - 2, u - 3
        taps = torch.stack([b * c * d / -6, a * c * d / 2, a * b * d / -2, a * b * c / 6], dim=1)
        index = first.long()[:, None] + torch.arange(4, device=first.device)
        offsets = torch.arange(batch, device=first.device)[:, None, None] * length
        read = functional.embedding_bag(
            (index + offsets).flatten(0, 1),
            self.values.flatten(0, 1).flatten(1),
            per_sample_weights=taps.to(self.values.dtype).repeat(batch, 1),
            mode="sum",
        )
        return read.view(batch, len(coordinates), *shape)


@dataclass(frozen=True)
class WarpedLines:
    """The lines of a warped view, at each pixel's coordinates.

    tables: of rows and of columns; None where the lines are evaluated at every pixel. Memory beside
    the tables does not grow with the view.
    """

    lines: LineFunction
    tables: tuple[LineTable, LineTable] | None
    view: View
    style: torch.Tensor
    weights: PixelWeights | None

    def draw(self, pixels: BilinePixels, rows: slice, columns: slice) -> torch.Tensor:
        """[N, 3, h, w]: the pixels at these rows and columns of the view."""
        x, y = self.view.points(rows, columns, self.style.device)
        composed = self._composed(x.flatten(), y.flatten())  # [N, P, B, K]
        image = pixels(self._as_grid(composed), slice(None), slice(None)).flatten(2)
        return image[:, :, : x.numel()].unflatten(2, x.shape)

    def _composed(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The features of all levels at the points (x, y) [P].  # [N, P, B, K]"""
        read, size = (self._evaluated, CHUNK) if self.tables is None else (self._read, CHUNK_PX)
        return torch.cat(
            [read(*chunk) for chunk in zip(x.split(size), y.split(size), strict=True)], 1
        )

    def _evaluated(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack([_compose(*level) for level in self.lines.levels(y, x)], dim=2)

    def _read(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        assert self.tables is not None
        return _compose(self.tables[0].read(y), self.tables[1].read(x))

    def _as_grid(self, composed: torch.Tensor) -> BilineState:
        """Lines whose composition is `composed` [N, P, B, K], in rows of a few pixels.

        The line d of a column is 1 in column d and 0 elsewhere. So the pixel part, and its kernels,
        take features of single pixels as they take lines.
        """
        across = ACROSS_CPU if composed.device.type == "cpu" else ACROSS_GPU
        missing = -composed.shape[1] % across
        padded = functional.pad(composed, (0, 0, 0, 0, 0, missing)).unflatten(1, (-1, across))
        rows = (padded * math.sqrt(across)).unbind(3)  # B of [N, P / across, across, K]
        ones = torch.eye(across, dtype=composed.dtype, device=composed.device)[None, :, :, None]
        column = ones.expand(len(composed), -1, -1, composed.shape[3])
        return BilineState(rows, (column,) * len(rows), self.style, self.weights)


def _compose(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """[N, P, ..., D, K] each -> [N, P, ..., K], as `biline_compose` for each pair of lines."""
    return (rows * columns).sum(dim=-2) * (1 / math.sqrt(rows.shape[-2]))
