"""The pixel part of the generator: bi-line composition, decoders between levels, refinement.

Thick bi-line composition is EIDGAN eq. 4, after CREPS.

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

    F is `biline_compose(rows, columns)`. The MLP has a leaky ReLU (0.2) after every layer.

    features: phi [N, H, W, K]. rows: [N, H, D, K]. columns: [N, W, D, K]. All may have any strides.
    weights: weights[i] is [C_{i+1}, C_i], with gains already multiplied in; C_0 = C_last = K.
    biases: biases[i] is [C_{i+1}], with gains already multiplied in.

    Returns phi' [N, H, W, K] in the dtype of autocast if that is enabled, else in the dtype of
    `features`. First and second derivatives exist in every tensor; a third raises `RuntimeError`,
    except under `--ops ref`. Raises `ValueError` for empty inputs.
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
    """The whole pixel part from lines to RGB in one operator, for inference.

    phi_0 = F_0 and phi_n = (MLP_n(phi_{n-1}) + F_n) / sqrt(2). A last MLP follows; its result is
    scaled to mean square 1 in each pixel; then comes the refinement to RGB.

    rows: B tensors [N, H, D, K]. columns: B tensors [N, W, D, K]. weights: from `pack_pixels`.

    Returns [N, 3, H, W] in float32, or None if there is no fused form: gradients are enabled,
    `--ops` is ref, or no kernel covers the configuration. The caller then computes level by level.
    Raises `ValueError` for empty inputs.
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
