"""y = act(x W'^T + b) with W' = demod(fold(W diag(s))), in plain PyTorch.

The spectral modulation u = irfft(g * rfft(x)) over the C channels of a position is the circular
convolution circ(h) x with h = irfft(g). The linear layer after it, W diag(s) circ(h) x, is one GEMM
with W' = W diag(s) circ(h). The rows of W' are irfft(conj(g) * rfft(row)), which costs O(O C log C)
a sample instead of O(P C log C). Leaky ReLU is positively homogeneous, so its gain sqrt(2) is
multiplied into W' and b. Only the GEMM and one in-place activation run over positions.

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
    """Fold the modulation irfft(spectrum * rfft(x)) into the weight of the layer after it.

    weight [..., O, C], spectrum [..., F] complex -> [..., O, C]. As in every real inverse FFT, the
    imaginary part of the first frequency, and of the last one for even C, has no effect.
    """
    channels = weight.shape[-1]
    transformed = torch.fft.rfft(at_least_single(weight), n=channels)
    # conj_physical: AOT autograd was seen to drop a lazy conjugate inside an operator's kernel.
    folded = transformed * spectrum.conj_physical().unsqueeze(-2)
    return torch.fft.irfft(folded, n=channels)


def modulated_weights(
    weight: torch.Tensor,
    style: torch.Tensor,
    spectrum: torch.Tensor | None = None,
    *,
    demodulate: bool = True,
    gain: float = 1.0,
) -> torch.Tensor:
    """Per-sample weights W' [N, O, C] in float32 or better.

    weight: [O, C]. style: [N, C]. spectrum: [N, F] complex or None. Without `demodulate`, rows are
    multiplied by 1 / sqrt(C) instead (equalised learning rate).
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
    """y = lrelu(x W'^T + b) * sqrt(2), or y = x W'^T + b without `activate` -> [N, P, O].

    Arguments are as in the public function. The result has the dtype of x, or of autocast if that
    is enabled. Differentiable to any order in every tensor.
    """
    gain = LEAKY_GAIN if activate else 1.0
    prepared = modulated_weights(weight, style, spectrum, demodulate=demodulate, gain=gain)
    return linear_act(x, prepared.to(x.dtype), bias * gain, activate)


def linear_act(
    x: torch.Tensor, prepared: torch.Tensor, bias: torch.Tensor, activate: bool
) -> torch.Tensor:
    """y = act(x W'^T + b) without the gain of the activation -> [N, P, O].

    x: [N, P, C] or [P, C]. prepared: W' [N, O, C]. bias: [O].
    """
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
    """`modulated_linear` as the paper writes it: FFT of the features, product, inverse FFT, layer.

    Tests compare the folded form with it. It is slow, because it computes an FFT at every position.
    """
    if spectrum is not None:
        x = torch.fft.irfft(spectrum.unsqueeze(1) * torch.fft.rfft(x), n=x.shape[-1])
    scaled = weight.unsqueeze(0) * style.unsqueeze(1)
    y = torch.einsum("npc,noc->npo", x, scaled)
    if demodulate:
        effective = scaled
        if spectrum is not None:
            kernel = torch.fft.irfft(spectrum, n=weight.shape[1])
            effective = torch.stack(
                [
                    torch.einsum("noc,nc->no", scaled, kernel.roll(shift, dims=1))
                    for shift in range(weight.shape[1])
                ],
                dim=2,
            )
        y = y / (effective.square().sum(dim=2) + DEMODULATION_EPS).sqrt().unsqueeze(1)
    else:
        y = y / math.sqrt(weight.shape[1])
    y = y + bias
    return torch.where(y > 0, y, y * LEAKY_SLOPE) * LEAKY_GAIN if activate else y
