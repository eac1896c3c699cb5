"""Fourier features of row and column coordinates, one set of fixed random frequencies per channel and thickness."""

from __future__ import annotations

import math

import torch
from torch import nn

from networks.coordinates import View


class FourierLines(nn.Module):
    """A view's rows and columns -> line inputs [(H + W) * D, C], shared by all samples.

    Frequencies are drawn N(0, bandwidth^2) in cycles per frame; sine and cosine share a frequency. A learned weight
    per channel and thickness follows; the per-sample affine of the paper is the style of the first modulated layer,
    which multiplies the same channels.
    """

    def __init__(self, channels: int, thickness: int, bandwidth: float) -> None:
        super().__init__()
        assert channels % 2 == 0
        self.register_buffer("frequencies", torch.randn(2, thickness, channels // 2) * bandwidth)  # rows, columns
        self.weight = nn.Parameter(torch.ones(2, thickness, channels))

    def forward(self, view: View) -> torch.Tensor:
        device = self.frequencies.device
        lines = [self._line(0, view.rows(device)), self._line(1, view.columns(device))]
        return torch.cat(lines).flatten(0, 1)

    def _line(self, axis: int, coordinates: torch.Tensor) -> torch.Tensor:
        phase = coordinates[:, None, None] * (2 * math.pi) * self.frequencies[axis]  # [S, D, C / 2]
        waves = torch.cat([phase.sin(), phase.cos()], dim=-1) * math.sqrt(2)
        return waves * self.weight[axis]
