"""Linear layer with style modulation and the spectral modulation of EIDGAN (eq. 6).

Both modulations are folded into the weights of the layer.

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
    """Per-sample weights W' = gain demod(fold(W diag(s))) -> [N, O, C].

    weight: W [O, C]. style: s [N, C]. spectrum: [N, F] complex, or None for no spectral modulation.
    demodulate: divide each row by its norm; if False, multiply rows by 1 / sqrt(C) (equalised
    learning rate). dtype: of the result; None = the dtype of the computation, which is float32 or
    float64. Differentiable to any order.
    """
    dtype = dtype or at_least_single(weight).dtype
    fused = registered("modulated_linear", weight.device.type, cpu=True)
    if weight.device.type == "cpu" and style.shape[0] * weight.numel() <= samples.GROUP_NUMBERS:
        fused = False  # plain operators are as fast if all weights fit the cache
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
    """y = lrelu(x W'^T + b) * sqrt(2), or y = x W'^T + b without `activate` -> [N, P, O].

    x: [N, P, C], or [P, C] shared by all samples; any strides.
    weight, style, spectrum, demodulate: as in `modulated_weights`, which makes W'.
    bias: b [O].

    The result has the dtype of autocast if that is enabled, else the dtype of x: float16, bfloat16,
    float32 or float64. Sums are accumulated in float32 or better; TF32 is used for float32 as
    torch.backends.cuda.matmul is set. Differentiable to any order in every tensor. Raises
    `ValueError` for an empty batch and for no positions.
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
