"""A learned vector for every cell of the trained frame, read anywhere by bilinear interpolation (INR-GAN, CIPS)."""

from __future__ import annotations

import torch
from torch import nn


class CellEmbedding(nn.Module):
    """ys [H], xs [W] in frame units, on the CPU -> [H, W, C]: exact at cell centres, the border's vector beyond the frame."""

    def __init__(self, channels: int, resolution: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(resolution, resolution, channels))

    def forward(self, ys: torch.Tensor, xs: torch.Tensor) -> torch.Tensor:
        return _interpolate(_interpolate(self.weight, ys, dim=0), xs, dim=1)


def _interpolate(table: torch.Tensor, positions: torch.Tensor, dim: int) -> torch.Tensor:
    size = table.shape[dim]
    place = (positions * size - 0.5).clamp(0, size - 1)
    low = place.floor().long()
    if torch.equal(place, low.to(place.dtype)):  # at cell centres there is nothing to blend
        return table.index_select(dim, low.to(table.device))
    fraction = (place - low).to(table.device)[:, None] if dim else (place - low).to(table.device)[:, None, None]
    high = (low + 1).clamp(max=size - 1)
    return torch.lerp(table.index_select(dim, low.to(table.device)), table.index_select(dim, high.to(table.device)), fraction)
