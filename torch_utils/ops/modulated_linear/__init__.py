"""Style-modulated linear layer with the spectral modulation of EIDGAN (eq. 6) folded into its weights.

Shapes: N batch, P positions, C input channels, O output channels, F = C // 2 + 1 frequencies.
"""

from __future__ import annotations

import torch

from torch_utils.ops.backend import compute_dtype, registered
from torch_utils.ops.modulated_linear import formula, reference, samples
from torch_utils.ops.modulated_linear.reference import (
    LEAKY_GAIN,
    modulated_linear_literal,
    spectral_fold,
)
from torch_utils.precision import at_least_single

__all__ = ["modulated_linear", "modulated_linear_literal", "modulated_weights", "spectral_fold"]


def modulated_weights(
    weight: torch.Tensor,
    style: torch.Tensor,
    spectrum: torch.Tensor | None = None,
    *,
    demodulate: bool = True,
    gain: float = 1.0,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Per-sample weights W' = gain demod(fold(W diag(s))).  # [O, C], [N, C], [N, F] complex or None -> [N, O, C]

    Computed in float32 or better and returned in `dtype` (None: as computed). Without demodulation rows are scaled by
    1 / sqrt(C) instead (equalised learning rate). Differentiable to any order.
    """
    dtype = dtype or at_least_single(weight).dtype
    fused = registered("modulated_linear", weight.device.type, cpu=True)
    if weight.device.type == "cpu" and style.shape[0] * weight.numel() <= samples.GROUP_NUMBERS:
        fused = False  # what the cache holds anyway is as fast in plain operators
    if not fused or weight.dtype == torch.float64:
        return reference.modulated_weights(
            weight, style, spectrum, demodulate=demodulate, gain=gain
        ).to(dtype)
    parts = None if spectrum is None else torch.view_as_real(spectrum)
    return torch.ops.eidgan.modulated_weights(weight, style, parts, demodulate, gain, dtype)


def modulated_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    style: torch.Tensor,
    bias: torch.Tensor,
    *,
    spectrum: torch.Tensor | None = None,
    demodulate: bool = True,
    activate: bool = True,
) -> torch.Tensor:
    """y = lrelu(x W'^T + b) * sqrt(2); without `activate` y = x W'^T + b.

    x [N, P, C] or [P, C] (shared by all samples), any strides; weight [O, C], style [N, C], bias [O], spectrum [N, F]
    complex or None. Returns [N, P, O] in x's dtype (autocast's under autocast): float32 (TF32 as
    torch.backends.cuda.matmul says), float16, bfloat16, or float64; sums are float32 or better. Differentiable to any
    order in every tensor. Raises `ValueError` for an empty batch or no positions.
    """
    if not style.shape[0] or not x.shape[-2]:
        raise ValueError(
            f"modulated_linear: empty input, x {tuple(x.shape)} and style {tuple(style.shape)}"
        )
    gain, dtype = LEAKY_GAIN if activate else 1.0, compute_dtype(x)
    if registered("modulated_linear", x.device.type, cpu=False) and x.dtype != torch.float64:
        return formula.modulated_linear(
            x.to(dtype),
            weight,
            style,
            bias,
            spectrum=spectrum,
            demodulate=demodulate,
            activate=activate,
            gain=gain,
        )
    prepared = modulated_weights(
        weight, style, spectrum, demodulate=demodulate, gain=gain, dtype=dtype
    )
    return reference.linear_act(x, prepared, bias * gain, activate)
