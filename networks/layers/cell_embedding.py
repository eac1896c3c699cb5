"""A learned vector for every cell of the trained frame, read anywhere by bilinear interpolation
(INR-GAN, CIPS).
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

    positions: [S] float32 in frame units. cells: numbers of the cells whose centres they are, a
    range or int64 [S]; None where they lie between centres.
    """

    positions: torch.Tensor
    cells: range | torch.Tensor | None

    @staticmethod
    def on(grid: int, axis: Axis, device: torch.device) -> Samples:
        """The samples of an axis of a view, beside a table of grid x grid cells."""
        return Samples(axis.samples(device), axis.cells_at(grid))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, part: slice) -> Samples:
        return Samples(self.positions[part], None if self.cells is None else self.cells[part])


class CellEmbedding(nn.Module):
    """Rows [H] and columns [W] -> [H, W, C]: exact at cell centres; outside the border's vector.

    `at` reads the same function at scattered points.
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
