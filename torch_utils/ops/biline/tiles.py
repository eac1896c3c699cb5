"""Kernels of the registered operators in plain PyTorch, which compute in tiles.

A tile stays in the cache of a CPU. Only inputs and results have the size of the picture: layers
write into buffers of one tile, activations are in place, and gains are multiplied into the last
layer. The backward recomputes the activations of a tile from phi.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from torch_utils.ops.biline.packing import Shape, mlp_shapes, refinement_shapes, unpack
from torch_utils.ops.modulated_linear.reference import LEAKY_SLOPE
from torch_utils.precision import at_least_single

TILE_PX = 4096
HALF = math.sqrt(0.5)
Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]


def tiles(batch: int, height: int, width: int) -> Iterator[tuple[slice, slice, slice]]:
    """Slices (samples, rows, columns) that cover a batch of pictures, at most TILE_PX pixels each.

    A tile has whole samples, or whole rows of one sample, or a part of one row.
    """
    columns = min(width, TILE_PX)
    rows = min(height, TILE_PX // columns)
    samples = max(1, TILE_PX // (height * width))
    for first in range(0, batch, samples):
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                yield (
                    slice(first, first + samples),
                    slice(top, min(top + rows, height)),
                    slice(left, min(left + columns, width)),
                )


class Workspace:
    """Output buffers [TILE_PX, O], one for each layer, which all tiles use again."""

    def __init__(self, shapes: Sequence[Shape], like: torch.Tensor) -> None:
        self.buffers = [like.new_empty(TILE_PX, out) for out, _ in shapes]

    def layer(
        self, index: int, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """leaky_relu(x weight^T + bias) in buffer `index`.  # x [pixels, C] -> [pixels, O]"""
        out = self.buffers[index][: len(x)]
        torch.addmm(bias, x, weight.t(), out=out)
        return torch.nn.functional.leaky_relu_(out, LEAKY_SLOPE)

    def mlp(self, x: torch.Tensor, layers: Layers, first: int = 0) -> torch.Tensor:
        """All `layers` one after the other, in the buffers from number `first` on."""
        for index, (weight, bias) in enumerate(layers, first):
            x = self.layer(index, x, weight, bias)
        return x


def add_composed(target: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """target [n, h, w, K] += sum_d rows [n, h, D, K] columns [n, w, D, K], in place.

    If the lines have a wider dtype than `target`, the sum is rounded once.
    """
    total = target if target.dtype == rows.dtype else rows.new_zeros(target.shape)
    for depth in range(rows.shape[2]):
        total.addcmul_(rows[:, :, None, depth], columns[:, None, :, depth])
    return target if total is target else target.add_(total)


def scaled_last(layers: Layers, scale: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The layers of the MLP times `scale` > 0.

    Scaling the last layer is enough, because leaky ReLU is positively homogeneous.
    """
    weight, bias = layers[-1]
    return [*layers[:-1], (weight * scale, bias * scale)]


def decode(
    features: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    params: torch.Tensor,
    widths: list[int],
) -> torch.Tensor:
    """Kernel of eidgan::biline_decode."""
    layers = scaled_last(unpack(params.to(features.dtype), mlp_shapes(widths)), HALF)
    rows, columns = at_least_single(rows), at_least_single(columns)
    rows = rows * (HALF / math.sqrt(rows.shape[2]))
    workspace = Workspace(mlp_shapes(widths), features)
    out = features.new_empty(features.shape)
    for n, h, w in tiles(*features.shape[:3]):
        tile = features[n, h, w]
        decoded = workspace.mlp(tile.reshape(-1, widths[0]), layers).view(tile.shape)
        out[n, h, w] = add_composed(decoded, rows[n, h], columns[n, w])
    return out


def decode_backward(
    grad: torch.Tensor,
    features: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    params: torch.Tensor,
    widths: list[int],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Kernel of eidgan::biline_decode_backward: gradients of features, rows, columns and params."""
    layers = unpack(params.to(features.dtype), mlp_shapes(widths))
    d_features = torch.empty_like(features, memory_format=torch.contiguous_format)
    d_rows = torch.zeros_like(at_least_single(rows))
    d_columns = torch.zeros_like(at_least_single(columns))
    d_params = torch.zeros_like(at_least_single(params))
    workspace = Workspace(mlp_shapes(widths), features)
    for n, h, w in tiles(*features.shape[:3]):
        g = grad[n, h, w] * HALF
        d_rows[n, h] += torch.einsum("nhwk,nwdk->nhdk", g, columns[n, w])
        d_columns[n, w] += torch.einsum("nhwk,nhdk->nwdk", g, rows[n, h])
        d_features[n, h, w] = _mlp_backward(
            g.reshape(-1, widths[-1]),
            features[n, h, w].reshape(-1, widths[0]),
            layers,
            unpack(d_params, mlp_shapes(widths)),
            workspace,
        ).view(g.shape)
    scale = 1 / math.sqrt(rows.shape[2])
    return (
        d_features,
        (d_rows * scale).to(rows.dtype),
        (d_columns * scale).to(columns.dtype),
        d_params.to(params.dtype),
    )


def _mlp_backward(
    grad: torch.Tensor, x: torch.Tensor, layers: Layers, d_layers: Layers, workspace: Workspace
) -> torch.Tensor:
    """Return the gradient of x [pixels, C]; add those of the weights and biases to `d_layers`."""
    activations = [x]
    for index, (weight, bias) in enumerate(layers):
        activations.append(workspace.layer(index, activations[-1], weight, bias))
    for index in reversed(range(len(layers))):
        grad = torch.ops.aten.leaky_relu_backward(grad, activations[index + 1], LEAKY_SLOPE, True)
        d_weight, d_bias = d_layers[index]
        d_weight += grad.t() @ activations[index]
        d_bias += grad.sum(dim=0)
        grad = grad @ layers[index][0]
    return grad


def render(
    rows: list[torch.Tensor],
    columns: list[torch.Tensor],
    decoders: torch.Tensor,
    refinement: torch.Tensor,
    widths: list[int],
    refinement_widths: list[int],
) -> torch.Tensor:
    """Kernel of eidgan::biline_render."""
    like = rows[0]
    (batch, height, depth, channels), width = like.shape, columns[0].shape[1]
    image = at_least_single(like.new_empty(0)).new_empty(batch, 3, height, width)
    levels = [unpack(level, mlp_shapes(widths)) for level in decoders.to(like.dtype)]
    levels = [*(scaled_last(level, HALF) for level in levels[:-1]), levels[-1]]
    scales = [(HALF if level else 1) / math.sqrt(depth) for level in range(len(rows))]
    rows = [at_least_single(line) * scale for line, scale in zip(rows, scales, strict=True)]
    columns = [at_least_single(line) for line in columns]
    shapes, refinement = refinement_shapes(channels, refinement_widths), refinement.to(like.dtype)
    workspaces = Workspace(mlp_shapes(widths), like), Workspace(shapes, like)
    for n, h, w in tiles(batch, height, width):
        features = _levels_tile(
            [(row[n, h], column[n, w]) for row, column in zip(rows, columns, strict=True)],
            levels,
            workspaces[0],
            like,
        )
        features = features * (features.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()
        for sample, tile in enumerate(features, start=n.start):
            rgb = _refine_tile(
                tile.flatten(0, 1), unpack(refinement[sample], shapes), workspaces[1]
            )
            image[sample, :, h, w] = rgb.t().unflatten(1, tile.shape[:2])
    return image


def _levels_tile(
    lines: Layers, levels: Sequence[Layers], workspace: Workspace, like: torch.Tensor
) -> torch.Tensor:
    """Features after the last MLP, [n, h, w, K], of one tile.

    lines: (rows [n, h, D, K], columns [n, w, D, K]) of each level. levels: the layers of each MLP.
    """
    size = *lines[0][0].shape[:2], lines[0][1].shape[1]
    features = add_composed(like.new_zeros(*size, like.shape[-1]), *lines[0])
    for layers, line in zip(levels[:-1], lines[1:], strict=True):
        features = add_composed(
            workspace.mlp(features.flatten(0, 2), layers).unflatten(0, size), *line
        )
    return workspace.mlp(features.flatten(0, 2), levels[-1]).unflatten(0, size)


def _refine_tile(features: torch.Tensor, layers: Layers, workspace: Workspace) -> torch.Tensor:
    """The refinement of the P pixels of a tile to RGB, [P, K] -> [P, 3]."""
    weight, bias = layers[0]
    rgb = torch.addmm(bias, features, weight.t())
    for index in range(1, len(layers), 3):
        features = workspace.mlp(features, layers[index : index + 2], index)
        weight, bias = layers[index + 2]
        rgb = rgb + torch.addmm(bias, features, weight.t())
    return rgb
