"""F[h, w, k] = sum_d r[h, d, k] c[w, d, k] / sqrt(D), phi' = (MLP(phi) + F) / sqrt(2), and the refinement to RGB,
in plain PyTorch: one full-size tensor a layer, autograd's own derivatives. The yardstick of tests and benchmarks.

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
    """rows [N, H, D, K], columns [N, W, D, K] -> [N, H, W, K]; the 1 / sqrt(D) keeps unit variance."""
    scale = 1 / math.sqrt(rows.shape[2])
    return torch.einsum("nhdk,nwdk->nhwk", rows * scale, columns)


def pixel_mlp(
    features: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]
) -> torch.Tensor:
    """[..., C_0] -> [..., C_n]: linear layers weights[i] [C_{i+1}, C_i], each with its bias and leaky ReLU."""
    y = features.flatten(0, -2)  # in place on a view, autograd would copy the gradient once more
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
    """phi' = (MLP(phi) + F) / sqrt(2); shapes as in the public function."""
    return (pixel_mlp(features, weights, biases) + biline_compose(rows, columns)) * math.sqrt(0.5)


def refine(features: torch.Tensor, pairs: Sequence[Mlp], to_rgb: Sequence[Layer]) -> torch.Tensor:
    """[N, P, K] -> [N, P, 3]: rgb_0(x) + sum_i rgb_i(pair_i(...)), with per-sample weights [N, O, C] and biases [O]."""

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
