"""The pixel part in plain PyTorch, the reference of tests and benchmarks.

F[h, w, k] = sum_d r[h, d, k] c[w, d, k] / sqrt(D), phi' = (MLP(phi) + F) / sqrt(2), and the
refinement to RGB. Every layer makes a tensor of the size of the picture, and autograd gives the
derivatives.

Shapes: N batch, H rows, W columns, D thickness, K feature channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from torch_utils.ops.biline.packing import Layer, Mlp
from torch_utils.ops.modulated_linear.reference import LEAKY_SLOPE


def biline_compose(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """F = sum_d rows[:, h, d] columns[:, w, d] / sqrt(D) -> [N, H, W, K].

    rows: [N, H, D, K]. columns: [N, W, D, K]. The factor 1 / sqrt(D) keeps unit variance.
    """
    scale = 1 / math.sqrt(rows.shape[2])
    return torch.einsum("nhdk,nwdk->nhwk", rows * scale, columns)


def pixel_mlp(
    features: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Linear layers, each followed by a leaky ReLU (0.2): [..., C_0] -> [..., C_n].

    weights[i] is [C_{i+1}, C_i], biases[i] is [C_{i+1}].
    """
    # Flattened first: for an activation in place on a view, autograd copies the gradient once more.
    y = features.flatten(0, -2)
    for weight, bias in zip(weights, biases, strict=True):
        y = functional.leaky_relu(functional.linear(y, weight, bias), LEAKY_SLOPE, inplace=True)
    return y.unflatten(0, features.shape[:-1])


def biline_decode(
    features: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
) -> torch.Tensor:
    """phi' = (MLP(phi) + F) / sqrt(2); shapes as in the public `biline_decode`."""
    return (pixel_mlp(features, weights, biases) + biline_compose(rows, columns)) * math.sqrt(0.5)


def refine(features: torch.Tensor, pairs: Sequence[Mlp], to_rgb: Sequence[Layer]) -> torch.Tensor:
    """The refinement to RGB, [N, P, K] -> [N, P, 3], for P pixels.

    rgb_0(x_0) + sum_i rgb_i(x_i) with x_0 = features and x_i = pair_i(x_{i-1}). Weights [N, O, C]
    are per sample; biases are [O].
    """

    def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(bias, x, weight.transpose(1, 2))

    rgb = linear(features, *to_rgb[0])
    for (weights, biases), head in zip(pairs, to_rgb[1:], strict=True):
        for weight, bias in zip(weights, biases, strict=True):
            features = functional.leaky_relu(
                linear(features, weight, bias), LEAKY_SLOPE, inplace=True
            )
        rgb = rgb + linear(features, *head)
    return rgb
