"""Thick bi-line composition (EIDGAN eq. 4; CREPS), the per-pixel decoder between two levels, and the whole pixel part.

Shapes: N batch, H rows, W columns, D thickness, K feature channels, B levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torch_utils.ops.backend import compute_dtype, registered
from torch_utils.ops.biline import formula, reference
from torch_utils.ops.biline.packing import PixelWeights, pack, pack_pixels
from torch_utils.ops.biline.reference import biline_compose, pixel_mlp

__all__ = [
    "PixelWeights",
    "biline_compose",
    "biline_decode",
    "biline_render",
    "pack_pixels",
    "pixel_mlp",
]


def biline_decode(
    features: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
) -> torch.Tensor:
    """One level of the pixel part (EIDGAN eq. 4, fig. 1): phi' = (MLP(phi) + F) / sqrt(2).

    features [N, H, W, K], rows [N, H, D, K], columns [N, W, D, K], any strides; weights[i] [C_{i+1}, C_i] and biases[i]
    [C_{i+1}] with every gain already folded in; leaky ReLU (0.2) after every layer; C_0 = C_last = K. Returns
    [N, H, W, K] in autocast's dtype, else features'. First and second derivatives in every tensor; a third raises
    `RuntimeError` (except under --ops ref). Raises `ValueError` for empty inputs.
    """
    _check_lines("biline_decode", rows, columns)
    dtype, device = compute_dtype(features), features.device.type
    widths = [features.shape[3], *(weight.shape[0] for weight in weights)]
    fused = registered("biline", device, cpu=True) and formula.covers(
        "biline_decode", device, dtype, widths
    )
    if fused and torch.is_grad_enabled():
        fused = formula.covers("biline_decode_backward", device, dtype, widths, rows.shape[2])
    if not fused:
        return reference.biline_decode(features, rows, columns, weights, biases)
    return torch.ops.eidgan.biline_decode(
        features.to(dtype), rows.to(dtype), columns.to(dtype), pack(weights, biases), widths
    )


def biline_render(
    rows: Sequence[torch.Tensor], columns: Sequence[torch.Tensor], weights: PixelWeights
) -> torch.Tensor | None:
    """Lines in, RGB out, for inference: phi_0 = F_0, phi_n = (MLP_n(phi) + F_n) / sqrt(2), a last MLP, whose result is
    scaled to mean square 1, the refinement.

    rows: B tensors [N, H, D, K]; columns: B tensors [N, W, D, K]; weights: of `pack_pixels`.
    Returns float32 [N, 3, H, W], or None where no fused form applies: gradients are enabled, --ops ref, or
    a configuration without a kernel; the caller then goes level by level. Raises `ValueError` for empty inputs.
    """
    for pair in zip(rows, columns, strict=True):
        _check_lines("biline_render", *pair)
    dtype, device = compute_dtype(rows[0]), rows[0].device.type
    widths = weights.widths, weights.refinement_widths
    fused = (
        not torch.is_grad_enabled()
        and registered("biline", device, cpu=True)
        and len(rows) <= formula.MAX_LEVELS
    )
    if not fused or not formula.covers("biline_render", device, dtype, *widths):
        return None
    refinement = weights.refinement
    if refinement.ndim == 1:
        refinement = refinement.expand(rows[0].shape[0], -1)
    return torch.ops.eidgan.biline_render(
        [line.to(dtype) for line in rows],
        [line.to(dtype) for line in columns],
        weights.decoders,
        refinement.contiguous(),
        *widths,
    )


def _check_lines(name: str, rows: torch.Tensor, columns: torch.Tensor) -> None:
    if not rows.shape[0] or not rows.shape[1] or not columns.shape[1]:
        raise ValueError(
            f"{name}: empty input, rows {tuple(rows.shape)} and columns {tuple(columns.shape)}"
        )
