"""The weights of the pixel part as one flat tensor, so that a kernel reads them, and adds up their gradient, in one piece.

A layer [O, C] with its bias [O] takes O * C + O numbers, weight first. Per-sample weights [N, O, C] give [N, numbers].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

Shape = tuple[int, int]  # O, C


def mlp_shapes(widths: Sequence[int]) -> list[Shape]:
    return [(b, a) for a, b in zip(widths, widths[1:])]


def refinement_shapes(channels: int, widths: Sequence[int]) -> list[Shape]:
    """RGB of the features, then for each pair: its two layers and its RGB."""
    shapes = [(3, channels)]
    for width in widths:
        shapes += [(width, channels), (width, width), (3, width)]
        channels = width
    return shapes


def num_numbers(shapes: Sequence[Shape]) -> int:
    return sum(o * c + o for o, c in shapes)


def pack(weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> torch.Tensor:
    """Layers in order -> [numbers], or [N, numbers] if any weight is per sample; differentiable."""
    batch = [weight.shape[0] for weight in weights if weight.ndim == 3][:1]
    parts = []
    for weight, bias in zip(weights, biases, strict=True):
        flat = weight.flatten(-2)
        parts += [flat.expand(*batch, -1) if flat.ndim == 1 else flat, bias.expand(*batch, -1)]
    return torch.cat(parts, dim=-1)


def unpack(numbers: torch.Tensor, shapes: Sequence[Shape]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """[..., numbers] -> a (weight [..., O, C], bias [..., O]) for each layer, as views."""
    layers, start = [], 0
    for out, channels in shapes:
        weight = numbers[..., start:start + out * channels].unflatten(-1, (out, channels))
        layers.append((weight, numbers[..., start + out * channels:start + out * channels + out]))
        start += out * channels + out
    assert start == numbers.shape[-1]
    return layers
