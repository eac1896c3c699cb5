"""F[h, w, k] = sum_d r[h, d, k] c[w, d, k] / sqrt(D), and phi' = (MLP(phi) + F) / sqrt(2), in plain PyTorch.

Shapes: N batch, H rows, W columns, D thickness, K feature channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from torch_utils.ops.modulated_linear.reference import LEAKY_SLOPE


def biline_compose(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """rows [N, H, D, K], columns [N, W, D, K] -> [N, H, W, K]; the 1 / sqrt(D) keeps unit variance."""
    scale = 1 / math.sqrt(rows.shape[2])
    return torch.einsum("nhdk,nwdk->nhwk", rows * scale, columns)


def pixel_mlp(features: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> torch.Tensor:
    """[..., C_0] -> [..., C_n]: linear layers weights[i] [C_{i+1}, C_i], each with its bias and leaky ReLU."""
    for weight, bias in zip(weights, biases):
        features = functional.leaky_relu(functional.linear(features, weight, bias), LEAKY_SLOPE, inplace=True)
    return features


def biline_decode(
    features: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor,
    weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor],
) -> torch.Tensor:
    """One level of the pixel part: phi' = (MLP(phi) + F) / sqrt(2).

    features [N, H, W, K], rows [N, H, D, K], columns [N, W, D, K]; weights[i] [C_{i+1}, C_i] and biases[i] [C_{i+1}]
    with every gain already folded in; leaky ReLU after every layer. Returns [N, H, W, K].
    """
    return (pixel_mlp(features, weights, biases) + biline_compose(rows, columns)) * math.sqrt(0.5)
