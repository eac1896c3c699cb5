"""The weights of the pixel part as one flat tensor, so that a kernel reads them, and adds up their gradient, in one piece.

A layer [O, C] with its bias [O] takes its weight first, then its bias. Both are filled up with zeros
to a multiple of eight rows: a tensor core multiplies eight rows at a time, and every layer begins
where a copy of 16 bytes may begin.
Per-sample weights [N, O, C] give [N, numbers].
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
    return [(b, a) for a, b in pairwise(widths)]


def refinement_shapes(channels: int, widths: Sequence[int]) -> list[Shape]:
    """RGB of the features, then for each pair: its two layers and its RGB."""
    shapes = [(3, channels)]
    for width in widths:
        shapes += [(width, channels), (width, width), (3, width)]
        channels = width
    return shapes


def padded(out: int) -> int:
    """Rows that a layer of `out` outputs takes."""
    return -(-out // ROWS) * ROWS


def num_numbers(shapes: Sequence[Shape]) -> int:
    return sum(padded(o) * (c + 1) for o, c in shapes)


def pack(weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> torch.Tensor:
    """Layers in order -> [numbers], or [N, numbers] if any weight is per sample; differentiable."""
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
    """[..., numbers] -> a (weight [..., O, C], bias [..., O]) for each layer, as views."""
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
    """All weights of `biline_render`: decoders [B, numbers], refinement [N, numbers] or [numbers].

    widths: of the decoders' layers, input first; refinement_widths: one for each pair of layers.
    """

    decoders: torch.Tensor
    refinement: torch.Tensor
    widths: list[int]
    refinement_widths: list[int]


def pack_pixels(
    decoders: Sequence[Mlp], pairs: Sequence[Mlp], to_rgb: Sequence[Layer]
) -> PixelWeights:
    """decoders: B (weights, biases) as in `biline_decode`; pairs: per-sample (weights [N, O, C],
    biases [O]) of the refinement's pairs of layers; to_rgb: one more than pairs,
    (weight [N, 3, C] or [3, C], bias [3]).
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
