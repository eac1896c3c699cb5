"""Kernels for CPUs, which compute a few samples at a time.

So the intermediate results stay in the cache. The backward uses only the inputs of the forward and
computes in the spectrum. Let u = W diag(s), G = dW', and let ^ be the real FFT over the channels.
Let c = 1 / C at the frequencies 0 and C / 2, else 2 / C: by Parseval's theorem, an inner product is
a sum over frequencies with the weights c. Then, row by row,
    |v|^2 = sum_k c |g|^2 |u^|^2,  <v, G> = sum_k c Re(g conj(u^) G^),
    d = (|v|^2 + eps)^(-1/2),  e = d^3 <v, G>,  du = gain irfft(d g G^ - e |g|^2 u^),
    dg = gain c sum_o (d u^ conj(G^) - e g |u^|^2),  dW = sum_n du s,  ds = sum_o du W,
which takes three FFTs of a row. Without a spectrum g, the norms of all rows are one product, s^2
times the transpose of W^2, and no FFT is needed. Without demodulation, d is 1 / sqrt(C) and e is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from torch_utils.ops.modulated_linear import reference
from torch_utils.ops.modulated_linear.reference import DEMODULATION_EPS
from torch_utils.precision import at_least_single, no_autocast

GROUP_NUMBERS = 1 << 19  # elements of the per-sample weights of a group: 2 MB of float32


def groups(batch: int, numbers: int) -> Iterator[slice]:
    """Slices of the samples that are computed together; a sample's weights have `numbers` elements.

    The weights of a group have at most GROUP_NUMBERS elements, unless it is one sample.
    """
    size = max(1, GROUP_NUMBERS // max(1, numbers))
    return (slice(first, min(first + size, batch)) for first in range(0, batch, size))


def weights(
    weight: Tensor,
    style: Tensor,
    spectrum: Tensor | None,
    demodulate: bool,
    gain: float,
    dtype: torch.dtype,
) -> Tensor:
    """Kernel of eidgan::modulated_weights.

    spectrum: [N, F, 2], real and imaginary parts, or None.
    """
    out = weight.new_empty(style.shape[0], *weight.shape, dtype=dtype)
    for n in groups(style.shape[0], weight.numel()):
        part = None if spectrum is None else torch.view_as_complex(spectrum[n].contiguous())
        out[n] = reference.modulated_weights(
            weight, style[n], part, demodulate=demodulate, gain=gain
        )
    return out


def weights_backward(
    grad: Tensor,
    weight: Tensor,
    style: Tensor,
    spectrum: Tensor | None,
    demodulate: bool,
    gain: float,
) -> tuple[Tensor, ...]:
    """Kernel of eidgan::modulated_weights_backward -> gradients of weight, style and spectrum.

    Without a spectrum, the third gradient is empty.
    """
    inputs = [weight, style, style.new_empty(0) if spectrum is None else spectrum]
    wide = [at_least_single(x) for x in inputs]
    with no_autocast(weight.device):
        gradients = _unfiltered if spectrum is None else _filtered
        results = gradients(grad, *wide, demodulate=demodulate)
    scale = gain if demodulate else gain / math.sqrt(weight.shape[1])
    return tuple(result.mul_(scale).to(x.dtype) for result, x in zip(results, inputs, strict=True))


def _unfiltered(
    grad: Tensor, weight: Tensor, style: Tensor, no_spectrum: Tensor, *, demodulate: bool
) -> tuple[Tensor, ...]:
    """The gradients without a spectrum, but for the constant factor of `weights_backward`."""
    d_weight, d_style = weight.new_zeros(weight.shape), style.new_empty(style.shape)
    weight_squared, style_squared = weight.square(), style.square()
    scale = (style_squared @ weight_squared.t() + DEMODULATION_EPS).rsqrt_()  # [N, O]
    inner = torch.empty_like(scale)
    for n in groups(style.shape[0], weight.numel()):
        g = grad[n].to(weight.dtype)
        product = g * weight
        if demodulate:
            inner[n] = torch.bmm(product, style[n].unsqueeze(2)).squeeze(2)
            d_style[n] = torch.bmm(scale[n].unsqueeze(1), product).squeeze(1)
            g = torch.mul(g, scale[n].unsqueeze(2), out=product)
        else:
            d_style[n] = product.sum(dim=1)
        _add_weighted(d_weight, g, style[n])
    if demodulate:
        pull = scale.pow(3).mul_(inner)
        d_style.addcmul_(style, pull @ weight_squared, value=-1)
        d_weight.addcmul_(weight, pull.t() @ style_squared, value=-1)
    return d_weight, d_style, no_spectrum


def _filtered(
    grad: Tensor, weight: Tensor, style: Tensor, spectrum: Tensor, *, demodulate: bool
) -> tuple[Tensor, ...]:
    """The gradients with a spectrum, but for the constant factor of `weights_backward`."""
    channels = weight.shape[1]
    edges = [0, channels // 2] if channels % 2 == 0 else [0]
    share = spectrum.new_full((spectrum.shape[1], 1), 2 / channels)
    share[edges] = 1 / channels
    filters = spectrum.clone(memory_format=torch.contiguous_format)
    filters[:, edges, 1] = 0  # a real inverse FFT ignores the imaginary part there
    d_weight, d_style = weight.new_zeros(weight.shape), style.new_empty(style.shape)
    d_spectrum = torch.empty_like(filters)
    for n in groups(style.shape[0], weight.numel()):
        u_hat = torch.fft.rfft(weight * style[n].unsqueeze(1))
        g_hat = torch.fft.rfft(grad[n].to(weight.dtype))
        du_hat, d_spectrum[n] = _in_the_spectrum(u_hat, g_hat, filters[n], share, demodulate)
        du = torch.fft.irfft(du_hat, n=channels)
        _add_weighted(d_weight, du, style[n])
        d_style[n] = du.mul_(weight).sum(dim=1)
    return d_weight, d_style, d_spectrum


def _in_the_spectrum(
    u_hat: Tensor, g_hat: Tensor, filters: Tensor, share: Tensor, demodulate: bool
) -> tuple[Tensor, Tensor]:
    """Return du^ [n, O, F] complex and dg [n, F, 2].

    u_hat, g_hat: u^ and G^ [n, O, F] complex, both overwritten. filters: g [n, F, 2], real and
    imaginary parts. share: c [F, 1].
    """
    aligned = _flat(u_hat.conj_physical().mul_(g_hat))
    u_flat, g_flat = _flat(u_hat), _flat(g_hat)
    power = filters.square().sum(dim=2, keepdim=True).expand_as(filters)
    mirror = filters.new_tensor([1.0, -1.0])  # its product with (real, imaginary) is the conjugate
    if demodulate:
        energy = u_flat.square()
        norm = torch.bmm(energy, (power * share).flatten(1).unsqueeze(2))  # [n, O, 1]
        inner = torch.bmm(aligned, (filters * share * mirror).flatten(1).unsqueeze(2))
        scale = (norm + DEMODULATION_EPS).rsqrt_()
        pull = scale.pow(3).mul_(inner)
    else:
        scale = filters.new_ones(*u_hat.shape[:2], 1)
    d_filters = torch.bmm(scale.transpose(1, 2), aligned).view_as(filters) * mirror
    g_hat.mul_(torch.view_as_complex(filters).unsqueeze(1))
    if demodulate:
        pulled = torch.bmm(pull.transpose(1, 2), energy).view_as(filters)
        d_filters -= filters * pulled.sum(dim=2, keepdim=True)
        u_flat.mul_(power.flatten(1).unsqueeze(1))
        g_flat.mul_(scale).addcmul_(u_flat, pull, value=-1)
    return g_hat, d_filters * share


def _flat(x: Tensor) -> Tensor:
    """View [n, O, F] complex as [n, O, 2 F]: real and imaginary parts alternate."""
    return torch.view_as_real(x).flatten(2)


def _add_weighted(total: Tensor, rows: Tensor, style: Tensor) -> None:
    """total [O, C] += sum_n rows [n, O, C] style [n, C]."""
    for row, scale in zip(rows, style, strict=True):
        total.addcmul_(row, scale)
