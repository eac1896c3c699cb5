"""Fourier features of row and column coordinates, one set of fixed random frequencies per channel
and thickness.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from networks.coordinates import View
from networks.layers.linear import EqualLinear

SHIFT, OCTAVES = 0.15, 0.5  # of `place`, in frames and octaves


class FourierLines(nn.Module):
    """A view's rows and columns -> line inputs [(H + W) * D, C], or [N, (H + W) * D, C] with
    `style_dim` or `place_dim`.

    Frequencies are drawn N(0, bandwidth^2) in cycles per frame; sine and cosine share a frequency.
    A learned weight per channel and thickness follows and, with style_dim, an affine of the style
    of the same shape (CREPS). Without it, the lines that enter the network are equal for all
    samples. The style of the first modulated layer then multiplies the channels, whatever the
    thickness.

    With place_dim, the style moves each sample's picture before the frequencies see it: on each
    axis u' = 1/2 + (u - 1/2) 2^(OCTAVES tanh a) + SHIFT tanh b, where (a, b) of both axes are an
    affine of the style. A picture of u' is the picture of u moved and scaled, so an implicit
    network need not learn to draw it twice.

    cycles: the standard deviation of the frequencies of a placed sample, at most, in cycles per
    frame.
    """

    frequencies: torch.Tensor
    cycles: float

    def __init__(
        self,
        channels: int,
        thickness: int,
        bandwidth: float,
        style_dim: int = 0,
        place_dim: int = 0,
    ) -> None:
        super().__init__()
        assert channels % 2 == 0
        self.register_buffer(
            "frequencies", torch.randn(2, thickness, channels // 2) * bandwidth
        )  # rows, columns
        self.weight = nn.Parameter(torch.ones(2, thickness, channels))
        self.affine = (
            EqualLinear(style_dim, 2 * thickness * channels, bias_init=1.0) if style_dim else None
        )
        self.place = EqualLinear(place_dim, 4) if place_dim else None
        self.cycles = bandwidth * (2**OCTAVES if place_dim else 1)

    def forward(self, view: View, style: torch.Tensor) -> torch.Tensor:
        device = self.frequencies.device
        return self.at(view.rows(device), view.columns(device), style)

    def at(self, rows: torch.Tensor, columns: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """The line inputs of rows at the heights `rows` [H] and columns at `columns` [W], in frame
        units. With [N, H] and [N, W], every sample has its coordinates.
        """
        weight = self.weight
        if self.affine is not None:
            weight = weight * self.affine.single(style).unflatten(1, weight.shape)  # [N, 2, D, C]
        axes = self._placed([rows, columns], style)
        lines = [self._waves(axis, u) for axis, u in enumerate(axes)]  # [(N,) S, D, C]
        lines = [waves * weight[..., axis, :, :].unsqueeze(-3) for axis, waves in enumerate(lines)]
        return torch.cat(lines, dim=-3).flatten(-3, -2)

    def _placed(self, axes: list[torch.Tensor], style: torch.Tensor) -> list[torch.Tensor]:
        """Coordinates [S] or [N, S] of both axes -> [N, S] at the places of the samples; as they
        are without `place`.
        """
        if self.place is None:
            return axes
        octaves, shifts = self.place.single(style).tanh().chunk(2, dim=1)  # [N, axis] each
        factors, shifts = torch.exp2(octaves * OCTAVES), shifts * SHIFT
        return [
            0.5 + (u - 0.5) * factors[:, i, None] + shifts[:, i, None] for i, u in enumerate(axes)
        ]

    def _waves(self, axis: int, coordinates: torch.Tensor) -> torch.Tensor:
        # [(N,) S, D, C / 2]
        phase = coordinates[..., None, None] * (2 * math.pi) * self.frequencies[axis]
        return torch.cat([phase.sin(), phase.cos()], dim=-1) * math.sqrt(2)
