"""The part of the bi-line generators that computes pixels: lines of all levels -> composed features
-> decoders -> RGB.

EIDGAN section 5 (eq. 4, fig. 1), after CREPS: phi_0 = F_0 and phi_n = (Decoder_n(phi_{n-1}) + F_n)
/ sqrt(2). One more decoder follows, and then the refinement block: style-modulated layers on each
pixel with RGB skips.

Shapes: N batch, H rows, W columns, h x w pixels of a crop, P = h * w, D thickness, K feature
channels, B levels, d_y style width.
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
    """A prepared view: the lines of all levels, and values that all pixels share.

    rows: lines of the rows, B tensors [N, H, D, K].
    columns: lines of the columns, B tensors [N, W, D, K].
    style: style of the refinement block [N, d_y].
    weights: result of `BilinePixels.folded`, computed once for all tiles of the view.
    """

    rows: tuple[torch.Tensor, ...]
    columns: tuple[torch.Tensor, ...]
    style: torch.Tensor
    weights: PixelWeights | None

    def draw(self, pixels: BilinePixels, rows: slice, columns: slice) -> torch.Tensor:
        """The pixels at these rows and columns of the view.  # [N, 3, h, w]"""
        return pixels(self, rows, columns)


class PixelDecoder(nn.Module):
    """The weights of an MLP on each pixel, K -> hidden ... -> K; a leaky ReLU ends each layer.

    channels: K.
    hidden: widths of the hidden layers.
    """

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
    """Features [N, P, K] and style [N, d_y] -> RGB [N, P, 3]: pairs of modulated layers.

    A linear layer on the features gives an RGB output, and a layer after each pair adds to it.
    These layers start at a quarter of unit gain; with unit gain the first pictures would have too
    much contrast.

    channels: K.
    widths: width of each pair.
    style_dim: d_y.
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
        """(weights, biases) of a pair and (weight, bias) of each RGB layer: see `pack_pixels`."""
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
        """`pairs` and `to_rgb` with the types of their modules."""
        return (
            cast("Sequence[Sequence[ModulatedLinear]]", self.pairs),
            cast("Sequence[Any]", self.to_rgb),
        )


class BilinePixels(nn.Module):
    """A crop of a `BilineState` -> pictures [N, 3, h, w].

    num_levels: B, the number of decoders.
    channels: K.
    decoder_hidden: hidden widths of each decoder.
    refinement: widths of the pairs of the refinement block.
    style_dim: d_y.
    """

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
        """All weights with gains, styles and demodulation included, for inference.

        None if gradients are enabled. The result belongs to one prepared view; it is computed anew
        for the next one, which may have other parameters.
        """
        if torch.is_grad_enabled():
            return None
        return pack_pixels(
            [decoder.folded() for decoder in self._decoders()], *self.refinement.folded(style)
        )

    def forward(self, state: BilineState, rows: slice, columns: slice) -> torch.Tensor:
        image = None
        if state.weights is not None:  # one operator, if it supports this configuration
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
        # The products of lines and the gain of the decoders grow without bound in training. Without
        # this normalisation tanh would saturate, and the rounding errors of tiles would grow.
        rgb = self.refinement(unit_second_moment(pixels), state.style)
        return rgb.float().transpose(1, 2).unflatten(2, size)

    def _decoders(self) -> Sequence[PixelDecoder]:
        return cast("Sequence[PixelDecoder]", self.decoders)
