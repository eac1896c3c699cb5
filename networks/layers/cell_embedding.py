"""A learned vector for every cell of the trained frame, read anywhere by bilinear interpolation (INR-GAN, CIPS)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

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
    """Rows [H] and columns [W] -> [H, W, C]: exact at cell centres; outside the border's vector."""

    def __init__(self, channels: int, resolution: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(resolution, resolution, channels))

    def forward(self, rows: Samples, columns: Samples) -> torch.Tensor:
        return _read(_read(self.weight, rows, dim=0), columns, dim=1)


def _read(table: torch.Tensor, samples: Samples, dim: int) -> torch.Tensor:
    size, cells = table.shape[dim], samples.cells
    if isinstance(cells, range):
        if 0 <= cells.start and cells.stop <= size:
            return table.narrow(dim, cells.start, len(cells))
        cells = torch.arange(cells.start, cells.stop, device=table.device)
    if cells is not None:
        return table.index_select(dim, cells.clamp(0, size - 1))
    place = (samples.positions * size - 0.5).clamp(0, size - 1)
    low = place.floor().long()
    fraction = (place - low)[:, None] if dim else (place - low)[:, None, None]
    high = (low + 1).clamp(max=size - 1)
    return torch.lerp(table.index_select(dim, low), table.index_select(dim, high), fraction)
