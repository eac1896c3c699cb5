"""The pixel part that bi-line generators share: thick lines of every level -> composed features ->
decoders -> RGB.

EIDGAN section 5 (eq. 4, fig. 1), after CREPS: phi_0 = F_0, phi_n = (Decoder_n(phi_{n-1}) + F_n) /
sqrt(2), one more decoder at the end, then the refinement block: per-pixel style-modulated layers
with an RGB skip.

Shapes: N batch, H rows, W columns, D thickness, K feature channels, B levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import nn

from networks.layers.linear import EqualLinear, unit_second_moment
from networks.layers.modulated import ModulatedLinear
from torch_utils.ops.biline import (
    PixelWeights,
    biline_compose,
    biline_decode,
    biline_render,
    pack_pixels,
    pixel_mlp,
)


@dataclass(frozen=True)
class BilineState:
    """Lines of all levels, which `render` slices, and what all pixels share.

    rows: B tensors [N, H, D, K]; columns: B tensors [N, W, D, K]; style [N, d_y] of the refinement
    block; weights: of `BilinePixels.folded`, so that tiles of a view share them too.
    """

    rows: tuple[torch.Tensor, ...]
    columns: tuple[torch.Tensor, ...]
    style: torch.Tensor
    weights: PixelWeights | None

    def draw(self, pixels: BilinePixels, rows: slice, columns: slice) -> torch.Tensor:
        """[N, 3, h, w]: the pixels at these rows and columns of the view."""
        return pixels(self, rows, columns)


class PixelDecoder(nn.Module):
    """Weights of one per-pixel MLP K -> hidden ... -> K, leaky ReLU after every layer."""

    def __init__(self, channels: int, hidden: Sequence[int]) -> None:
        super().__init__()
        widths = [channels, *hidden, channels]
        self.layers = nn.ModuleList(EqualLinear(a, b, activate=True) for a, b in pairwise(widths))

    def folded(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        layers = cast("Sequence[EqualLinear]", self.layers)
        weights: list[torch.Tensor] = [layer.weight for layer in layers]
        biases: list[torch.Tensor] = [layer.bias for layer in layers]
        return (
            list(torch._foreach_mul(weights, [layer.weight_gain for layer in layers])),
            list(torch._foreach_mul(biases, [layer.bias_gain for layer in layers])),
        )


class RefinementBlock(nn.Module):
    """Features [N, P, K] and style -> RGB [N, P, 3]: two pairs of modulated layers, each adding to
    an RGB skip.

    RGB layers start at a quarter of unit gain, so that the first pictures have the contrast of
    pictures.
    """

    def __init__(self, channels: int, widths: Sequence[int], style_dim: int) -> None:
        super().__init__()
        self.to_rgb = nn.ModuleList([EqualLinear(channels, 3, weight_init=0.25)])
        self.pairs = nn.ModuleList()
        for width in widths:
            self.pairs.append(
                nn.ModuleList(
                    [
                        ModulatedLinear(channels, width, style_dim),
                        ModulatedLinear(width, width, style_dim),
                    ]
                )
            )
            self.to_rgb.append(
                ModulatedLinear(
                    width, 3, style_dim, demodulate=False, activate=False, weight_init=0.25
                )
            )
            channels = width

    def folded(self, style: torch.Tensor) -> tuple[list, list]:
        """(weights, biases) of each pair, (weight, bias) of each RGB layer: see `pack_pixels`."""
        pairs, heads = self._layers()
        folded = [
            tuple(zip(*(layer.folded(style) for layer in pair), strict=True)) for pair in pairs
        ]
        return folded, [heads[0].folded(), *(head.folded(style) for head in heads[1:])]

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        pairs, heads = self._layers()
        rgb = heads[0](x)
        for pair, head in zip(pairs, heads[1:], strict=True):
            for layer in pair:
                x = layer(x, style)
            rgb = rgb + head(x, style)
        return rgb

    def _layers(self) -> tuple[Sequence[Sequence[ModulatedLinear]], Sequence[Any]]:
        """`pairs` and `to_rgb` with the types of what they hold."""
        return (
            cast("Sequence[Sequence[ModulatedLinear]]", self.pairs),
            cast("Sequence[Any]", self.to_rgb),
        )


class BilinePixels(nn.Module):
    """The pixel part: crops of a `BilineState` -> pictures [N, 3, h, w]."""

    def __init__(
        self,
        num_levels: int,
        channels: int,
        decoder_hidden: Sequence[int],
        refinement: Sequence[int],
        style_dim: int,
    ) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(
            PixelDecoder(channels, decoder_hidden) for _ in range(num_levels)
        )
        self.refinement = RefinementBlock(channels, refinement, style_dim)

    def folded(self, style: torch.Tensor) -> PixelWeights | None:
        """For inference, every weight with its gains, styles and demodulation; None under autograd.

        They are part of a prepared view and go with it: nothing outlives a change of a parameter.
        """
        if torch.is_grad_enabled():
            return None
        return pack_pixels(
            [decoder.folded() for decoder in self._decoders()], *self.refinement.folded(style)
        )

    def forward(self, state: BilineState, rows: slice, columns: slice) -> torch.Tensor:
        image = None
        if state.weights is not None:  # all in one operator, if it takes this configuration
            lines = ([x[:, rows] for x in state.rows], [x[:, columns] for x in state.columns])
            image = biline_render(*lines, state.weights)
        return self._by_level(state, rows, columns) if image is None else image

    def _by_level(self, state: BilineState, rows: slice, columns: slice) -> torch.Tensor:
        features = biline_compose(state.rows[0][:, rows], state.columns[0][:, columns])
        size, decoders = features.shape[1:3], self._decoders()
        levels = zip(decoders[:-1], state.rows[1:], state.columns[1:], strict=True)
        for decoder, line_rows, line_columns in levels:
            features = biline_decode(
                features, line_rows[:, rows], line_columns[:, columns], *decoder.folded()
            )
        pixels = pixel_mlp(features, *decoders[-1].folded()).flatten(1, 2)
        # The product of lines and the decoders' gain grow without bound in training: tanh would
        # saturate, tiles drift.
        rgb = self.refinement(unit_second_moment(pixels), state.style)
        return rgb.float().transpose(1, 2).unflatten(2, size)

    def _decoders(self) -> Sequence[PixelDecoder]:
        return cast("Sequence[PixelDecoder]", self.decoders)
