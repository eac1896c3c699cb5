"""y = act(x W'^T + b), W' = demod(circ-fold(W diag(s))), in plain PyTorch.

A spectral modulation u = irfft(g * rfft(x)) over the C channels of a position is a circular convolution
circ(h) x with h = irfft(g). Behind it, W diag(s) circ(h) x is one GEMM with W' = W diag(s) circ(h), whose rows are
irfft(conj(g) * rfft(row)): O(O C log C) a sample instead of O(P C log C). Leaky ReLU is positively homogeneous,
so its gain sqrt(2) goes into W' and b. Nothing here runs over positions but the GEMM and one in-place activation.

Shapes: N batch, P positions, C input channels, O output channels, F = C // 2 + 1 frequencies.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from torch_utils.precision import at_least_single

LEAKY_SLOPE = 0.2
LEAKY_GAIN = math.sqrt(2.0)
DEMODULATION_EPS = 1e-8


def spectral_fold(weight: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """weight [..., O, C] behind irfft(spectrum * rfft(x)) -> the single weight [..., O, C] that does both.

    spectrum [..., F] complex, F = C // 2 + 1. As in every real inverse FFT, the imaginary part of the first entry
    (and of the last one, for even C) has no effect.
    """
    channels = weight.shape[-1]
    # conj_physical: a lazy conjugate inside an operator's kernel was seen to be dropped under AOT autograd.
    folded = torch.fft.rfft(
        at_least_single(weight), n=channels
    ) * spectrum.conj_physical().unsqueeze(-2)
    return torch.fft.irfft(folded, n=channels)


def modulated_weights(
    weight: torch.Tensor,
    style: torch.Tensor,
    spectrum: torch.Tensor | None = None,
    *,
    demodulate: bool = True,
    gain: float = 1.0,
) -> torch.Tensor:
    """Per-sample weights W'.  # [O, C], [N, C], [N, F] -> [N, O, C], float32 or better

    Without demodulation rows are scaled by 1 / sqrt(C) instead (equalised learning rate).
    """
    prepared = at_least_single(weight).unsqueeze(0) * at_least_single(style).unsqueeze(1)
    if spectrum is not None:
        prepared = spectral_fold(prepared, spectrum)
    if demodulate:
        norm = prepared.square().sum(dim=2, keepdim=True)
        return prepared * ((norm + DEMODULATION_EPS).rsqrt() * gain)
    return prepared * (gain / math.sqrt(weight.shape[1]))


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

    x [N, P, C] or [P, C] (shared by all samples), weight [O, C], style [N, C], bias [O], spectrum [N, F] complex or
    None; returns [N, P, O] in x's dtype (autocast's under autocast). Differentiable to any order in every tensor.
    """
    gain = LEAKY_GAIN if activate else 1.0
    prepared = modulated_weights(weight, style, spectrum, demodulate=demodulate, gain=gain).to(
        x.dtype
    )
    return linear_act(x, prepared, bias * gain, activate)


def linear_act(
    x: torch.Tensor, prepared: torch.Tensor, bias: torch.Tensor, activate: bool
) -> torch.Tensor:
    """y = act(x W'^T + b).  # x [N, P, C] or [P, C], prepared [N, O, C], bias [O] -> [N, P, O]"""
    if x.ndim == 2:
        x = x.expand(prepared.shape[0], -1, -1)
    y = torch.baddbmm(bias.to(x.dtype), x, prepared.transpose(1, 2))
    return functional.leaky_relu(y, LEAKY_SLOPE, inplace=True) if activate else y


def modulated_linear_literal(
    x: torch.Tensor,
    weight: torch.Tensor,
    style: torch.Tensor,
    bias: torch.Tensor,
    *,
    spectrum: torch.Tensor | None = None,
    demodulate: bool = True,
    activate: bool = True,
) -> torch.Tensor:
    """The same function written as the paper does: FFT over the features, modulate, inverse FFT, then the layer.

    Exists so that tests can hold the fold to it; slow (an FFT over every position).
    """
    if spectrum is not None:
        x = torch.fft.irfft(spectrum.unsqueeze(1) * torch.fft.rfft(x), n=x.shape[-1])
    scaled = weight.unsqueeze(0) * style.unsqueeze(1)
    y = torch.einsum("npc,noc->npo", x, scaled)
    if demodulate:
        kernel = torch.fft.irfft(spectrum, n=weight.shape[1]) if spectrum is not None else None
        effective = (
            scaled
            if kernel is None
            else torch.stack(
                [
                    torch.einsum("noc,nc->no", scaled, kernel.roll(shift, dims=1))
                    for shift in range(weight.shape[1])
                ],
                dim=2,
            )
        )
        y = y / (effective.square().sum(dim=2) + DEMODULATION_EPS).sqrt().unsqueeze(1)
    else:
        y = y / math.sqrt(weight.shape[1])
    y = y + bias
    return torch.where(y > 0, y, y * LEAKY_SLOPE) * LEAKY_GAIN if activate else y
