"""Fourier features of row and column coordinates, one set of fixed random frequencies per channel and thickness."""

from __future__ import annotations

import math

import torch
from torch import nn

from networks.coordinates import View
from networks.layers.linear import EqualLinear


class FourierLines(nn.Module):
    """A view's rows and columns -> line inputs [(H + W) * D, C], or with `style_dim` [N, (H + W) * D, C].

    Frequencies are drawn N(0, bandwidth^2) in cycles per frame; sine and cosine share a frequency. A learned weight
    per channel and thickness follows and, with style_dim, an affine of the style of the same shape (CREPS). Without it
    all samples share the lines: the style of the first modulated layer then multiplies the channels, whatever the thickness.
    """

    frequencies: torch.Tensor

    def __init__(self, channels: int, thickness: int, bandwidth: float, style_dim: int = 0) -> None:
        super().__init__()
        assert channels % 2 == 0
        self.register_buffer("frequencies", torch.randn(2, thickness, channels // 2) * bandwidth)  # rows, columns
        self.weight = nn.Parameter(torch.ones(2, thickness, channels))
        self.affine = EqualLinear(style_dim, 2 * thickness * channels, bias_init=1.0) if style_dim else None

    def forward(self, view: View, style: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        if self.affine is not None:
            weight = weight * self.affine.single(style).unflatten(1, weight.shape)  # [N, 2, D, C]
        device = self.frequencies.device
        lines = [self._waves(0, view.rows(device)), self._waves(1, view.columns(device))]  # [S, D, C]
        lines = [waves * weight[..., axis, :, :].unsqueeze(-3) for axis, waves in enumerate(lines)]
        return torch.cat(lines, dim=-3).flatten(-3, -2)

    def _waves(self, axis: int, coordinates: torch.Tensor) -> torch.Tensor:
        phase = coordinates[:, None, None] * (2 * math.pi) * self.frequencies[axis]  # [S, D, C / 2]
        return torch.cat([phase.sin(), phase.cos()], dim=-1) * math.sqrt(2)
