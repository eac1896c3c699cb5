"""The cells of the trained frame, and a learned vector for each of them (INR-GAN, CIPS).

The vectors are interpolated bilinearly between the centres of the cells.

Shapes: S samples along one axis, n cells along one axis, H rows, W columns, P points, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from networks.coordinates import Axis


@dataclass(frozen=True)
class Samples:
    """Samples along one axis.

    positions: float32 [S], in frame units.
    cells: numbers of the cells whose centres the samples are, a range or int64 [S]; None if the
        samples are not the centres of cells.
    """

    positions: torch.Tensor
    cells: range | torch.Tensor | None

    @staticmethod
    def on(grid: int, axis: Axis, device: torch.device) -> Samples:
        """The samples of an axis of a view, with their cells in a table of grid x grid cells."""
        return Samples(axis.samples(device), axis.cells_at(grid))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, part: slice) -> Samples:
        return Samples(self.positions[part], None if self.cells is None else self.cells[part])


@dataclass(frozen=True)
class Cells:
    """The cells of a coarse scale that a view needs along one axis, in order.

    grid: number of cells of the trained frame along the axis.
    numbers: numbers of the cells, int64 [n].
    span: the same numbers as a range; None if the samples of the view are further apart than the
        cells. Then entry i of `numbers` is the cell of sample i.
    """

    grid: int
    numbers: torch.Tensor
    span: range | None

    @staticmethod
    def under(axis: Axis, samples: torch.Tensor, grid: int) -> Cells:
        span = axis.cells_under(grid)
        if span is None:
            return Cells(grid, (samples * grid).floor().long(), None)
        return Cells.of(grid, span, samples.device)

    @staticmethod
    def of(grid: int, span: range, device: torch.device) -> Cells:
        return Cells(grid, torch.arange(span.start, span.stop, device=device), span)

    def centres(self) -> Samples:
        cells = self.numbers if self.span is None else self.span
        return Samples((self.numbers + 0.5) / self.grid, cells)

    def indices(self, positions: torch.Tensor) -> torch.Tensor:
        """For each position, the index in `numbers` of the cell that contains it.  # int64 [S]

        positions: all samples of the view, or the centres of all cells of a finer scale [S].
        """
        if self.span is None:
            return torch.arange(len(positions), device=positions.device)
        numbers = (positions * self.grid).floor().long()
        return (numbers - self.span.start).clamp(0, len(self.span) - 1)


class CellEmbedding(nn.Module):
    """Rows [H] and columns [W] -> interpolated vectors [H, W, C].

    At the centre of a cell the result is its vector. Positions beyond the outermost centres are
    clamped to them. `at` evaluates the same function at scattered points.
    """

    def __init__(self, channels: int, resolution: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(resolution, resolution, channels))

    def forward(self, rows: Samples, columns: Samples) -> torch.Tensor:
        return _read(_read(self.weight, rows, dim=0), columns, dim=1)

    def at(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The vectors at the points (x, y) [P], in frame units.  # [P, C]"""
        height, width = self.weight.shape[:2]
        (top, bottom, down), (left, right, across) = _neighbours(y, height), _neighbours(x, width)
        cells = torch.stack(
            [
                top * width + left,
                top * width + right,
                bottom * width + left,
                bottom * width + right,
            ],
            dim=1,
        )
        shares = torch.stack(
            [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across],
            dim=1,
        )
        return functional.embedding_bag(
            cells,
            self.weight.flatten(0, 1),
            mode="sum",
            per_sample_weights=shares.to(self.weight.dtype),
        )


def _read(table: torch.Tensor, samples: Samples, dim: int) -> torch.Tensor:
    size, cells = table.shape[dim], samples.cells
    if isinstance(cells, range):
        if 0 <= cells.start and cells.stop <= size:
            return table.narrow(dim, cells.start, len(cells))
        cells = torch.arange(cells.start, cells.stop, device=table.device)
    if cells is not None:
        return table.index_select(dim, cells.clamp(0, size - 1))
    low, high, fraction = _neighbours(samples.positions, size)
    fraction = fraction[:, None] if dim else fraction[:, None, None]
    return torch.lerp(table.index_select(dim, low), table.index_select(dim, high), fraction)


def _neighbours(
    positions: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The cells whose centres are before and after each position, and the share of the second."""
    place = (positions * size - 0.5).clamp(0, size - 1)
    low = place.floor().long()
    return low, (low + 1).clamp(max=size - 1), place - low
