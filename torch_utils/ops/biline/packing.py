"""Packing of the weights of the pixel part into one flat tensor.

So a kernel reads the weights, and adds up their gradient, in one piece. A layer consists of its
weight [O, C] and then its bias [O]. Both are padded with zeros to a multiple of eight rows, because
a tensor core multiplies eight rows at a time; every layer then begins at an address where a copy of
16 bytes may begin. Per-sample weights [N, O, C] are packed to [N, numbers].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn import functional

Shape = tuple[int, int]  # O, C
Layer = tuple[torch.Tensor, torch.Tensor]  # weight, bias
Mlp = tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]  # weights, biases
ROWS = 8


def mlp_shapes(widths: Sequence[int]) -> list[Shape]:
    """Shapes (O, C) of the layers of an MLP whose features have these widths, input first."""
    return [(b, a) for a, b in pairwise(widths)]


def refinement_shapes(channels: int, widths: Sequence[int]) -> list[Shape]:
    """Shapes (O, C) of the layers of the refinement, whose features have `channels` at first.

    The first layer turns these features to RGB. For each of `widths` follow two hidden layers and
    one layer to RGB.
    """
    shapes = [(3, channels)]
    for width in widths:
        shapes += [(width, channels), (width, width), (3, width)]
        channels = width
    return shapes


def padded(out: int) -> int:
    """The number of rows of a layer with `out` outputs after padding."""
    return -(-out // ROWS) * ROWS


def num_numbers(shapes: Sequence[Shape]) -> int:
    """The number of elements of the packed layers."""
    return sum(padded(o) * (c + 1) for o, c in shapes)


def pack(weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> torch.Tensor:
    """Pack layers in order -> [numbers], or [N, numbers] if a weight is per sample.

    Differentiable.
    """
    batch = [weight.shape[0] for weight in weights if weight.ndim == 3][:1]
    parts = []
    for weight, bias in zip(weights, biases, strict=True):
        more = padded(weight.shape[-2]) - weight.shape[-2]
        if more:
            weight, bias = functional.pad(weight, (0, 0, 0, more)), functional.pad(bias, (0, more))
        flat = weight.flatten(-2)
        parts += [flat.expand(*batch, -1) if flat.ndim == 1 else flat, bias.expand(*batch, -1)]
    return torch.cat(parts, dim=-1)


def unpack(
    numbers: torch.Tensor, shapes: Sequence[Shape]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Undo `pack`: [..., numbers] -> views (weight [..., O, C], bias [..., O]) of each layer."""
    layers, start = [], 0
    for out, channels in shapes:
        rows = padded(out)
        middle, end = start + rows * channels, start + rows * (channels + 1)
        weight = numbers[..., start:middle].unflatten(-1, (rows, channels))
        layers.append((weight[..., :out, :], numbers[..., middle : middle + out]))
        start = end
    assert start == numbers.shape[-1]
    return layers


@dataclass(frozen=True)
class PixelWeights:
    """All weights of `biline_render`.

    decoders: [B, numbers]. refinement: [N, numbers] or [numbers]. widths: of the features in the
    decoders, input first. refinement_widths: one for each pair of layers of the refinement.
    """

    decoders: torch.Tensor
    refinement: torch.Tensor
    widths: list[int]
    refinement_widths: list[int]


def pack_pixels(
    decoders: Sequence[Mlp], pairs: Sequence[Mlp], to_rgb: Sequence[Layer]
) -> PixelWeights:
    """Pack the weights of the pixel part.

    decoders: B pairs (weights, biases) as in `biline_decode`.
    pairs: (weights [N, O, C], biases [O]) of each pair of hidden layers of the refinement.
    to_rgb: one layer more than `pairs`, each (weight [N, 3, C] or [3, C], bias [3]).
    """
    layers = [to_rgb[0]]
    for (weights, biases), head in zip(pairs, to_rgb[1:], strict=True):
        layers += [*zip(weights, biases, strict=True), head]
    first = decoders[0][0]
    return PixelWeights(
        torch.stack([pack(*decoder) for decoder in decoders]),
        pack(*zip(*layers, strict=True)),
        [first[0].shape[1], *(weight.shape[0] for weight in first)],
        [weights[0].shape[1] for weights, _ in pairs],
    )
