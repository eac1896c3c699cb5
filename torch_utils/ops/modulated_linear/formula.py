"""Registered operators behind `modulated_linear`, each with one autograd formula for every device.

`modulated_weights`: style, spectral fold and demodulation in one. `linear_act`: GEMM with bias and leaky ReLU.
`act_backward`: the gradient through the activation and the sum that is the bias' gradient. The kernels registered here
are plain PyTorch; the CUDA plugin replaces them for CUDA tensors. The formulas consist of differentiable operators, so
every order of derivative exists.

With u = W diag(s), v = irfft(conj(g) rfft(u)), d = (|v|^2 + eps)^(-1/2), y = v d and W' = gain y, row by row:
    dv = gain d (dW' - y <y, dW'>),  du = irfft(g rfft(dv)),  dW = sum_n du s,  ds = sum_o du W,
    dg_k = c_k / C sum_o conj(rfft(dv)_k) rfft(u)_k,  c = 1 at frequency 0 and C / 2, else 2.
"""

from __future__ import annotations

import math

import torch

from torch_utils.ops.modulated_linear import reference
from torch_utils.ops.modulated_linear.reference import DEMODULATION_EPS, LEAKY_SLOPE

LIBRARY = torch.library.Library("eidgan", "FRAGMENT")
LIBRARY.define("modulated_weights(Tensor weight, Tensor style, Tensor? spectrum, bool demodulate, float gain, "
               "ScalarType dtype) -> Tensor")
LIBRARY.define("linear_act(Tensor x, Tensor weight, Tensor bias, bool activate) -> Tensor")
LIBRARY.define("act_backward(Tensor grad, Tensor y, bool activate) -> (Tensor, Tensor)")


def _modulated_weights(weight, style, spectrum, demodulate, gain, dtype):
    """spectrum [N, F, 2] real and imaginary part, or None."""
    complex_spectrum = None if spectrum is None else torch.view_as_complex(spectrum.contiguous())
    prepared = reference.modulated_weights(weight, style, complex_spectrum, demodulate=demodulate, gain=gain)
    return prepared.to(dtype).contiguous()  # as the fake kernel says; an inverse FFT may return other strides


def _linear_act(x, weight, bias, activate):
    y = torch.baddbmm(bias, x, weight.transpose(1, 2))
    return torch.nn.functional.leaky_relu(y, LEAKY_SLOPE, inplace=True) if activate else y


def _through_act(grad, y, activate):
    """The gradient in front of lrelu, from the one behind it and its result."""
    return torch.ops.aten.leaky_relu_backward(grad, y, LEAKY_SLOPE, True) if activate else grad


def _act_backward(grad, y, activate):
    grad = _through_act(grad, y, activate)
    return grad.clone(), grad.sum(dim=(0, 1), dtype=torch.promote_types(grad.dtype, torch.float32)).to(grad.dtype)


for _name, _kernel in {"modulated_weights": _modulated_weights, "linear_act": _linear_act, "act_backward": _act_backward}.items():
    LIBRARY.impl(_name, _kernel, "CompositeExplicitAutograd")


@torch.library.register_fake("eidgan::modulated_weights", lib=LIBRARY)
def _(weight, style, spectrum, demodulate, gain, dtype):
    return weight.new_empty(style.shape[0], *weight.shape, dtype=dtype)


@torch.library.register_fake("eidgan::linear_act", lib=LIBRARY)
def _(x, weight, bias, activate):
    return x.new_empty(x.shape[0], x.shape[1], weight.shape[1])


@torch.library.register_fake("eidgan::act_backward", lib=LIBRARY)
def _(grad, y, activate):
    return torch.empty_like(grad), grad.new_empty(grad.shape[-1])


def _save_weights(ctx, inputs, output):
    weight, style, spectrum, ctx.demodulate, ctx.gain, _ = inputs
    ctx.save_for_backward(weight, style, spectrum)


def _weights_backward(ctx, grad):
    with torch.autocast(grad.device.type, enabled=False):  # R1 and path length differentiate inside an autocast region
        return *_weights_gradients(ctx, grad), None, None, None


def _weights_gradients(ctx, grad):
    weight, style, spectrum = ctx.saved_tensors
    channels = weight.shape[1]
    single = reference.at_least_single
    wide, style_wide, grad = single(weight), single(style), single(grad)
    u = wide.unsqueeze(0) * style_wide.unsqueeze(1)
    gain_spectrum = None if spectrum is None else torch.view_as_complex(spectrum.contiguous()).unsqueeze(1)
    v = u
    if spectrum is not None:
        u_hat = torch.fft.rfft(u)
        v = torch.fft.irfft(u_hat * gain_spectrum.conj_physical(), n=channels)
    if ctx.demodulate:
        scale = (v.square().sum(dim=2, keepdim=True) + DEMODULATION_EPS).rsqrt()
        y = v * scale
        du = (grad - y * (y * grad).sum(dim=2, keepdim=True)) * (scale * ctx.gain)
    else:
        du = grad * (ctx.gain / math.sqrt(channels))
    d_spectrum = None
    if spectrum is not None:
        dv_hat = torch.fft.rfft(du)
        du = torch.fft.irfft(dv_hat * gain_spectrum, n=channels)
        twice = torch.full((spectrum.shape[1],), 2.0, dtype=spectrum.dtype, device=spectrum.device)
        twice[0] = 1
        if channels % 2 == 0:
            twice[-1] = 1
        product = (dv_hat.conj_physical() * u_hat).sum(dim=1)
        d_spectrum = torch.view_as_real(product) * (twice / channels).unsqueeze(1)
    d_weight = torch.einsum("noc,nc->oc", du, style_wide).to(weight.dtype)
    d_style = torch.einsum("noc,oc->nc", du, wide).to(style.dtype)
    return d_weight, d_style, d_spectrum


def _save_linear(ctx, inputs, output):
    x, weight, _, ctx.activate = inputs
    ctx.save_for_backward(x, weight, output)


def _linear_backward(ctx, grad):
    x, weight, y = ctx.saved_tensors
    grad, d_bias = torch.ops.eidgan.act_backward(grad, y, ctx.activate)
    d_x = torch.bmm(grad, weight) if ctx.needs_input_grad[0] else None
    d_weight = torch.bmm(grad.transpose(1, 2), x) if ctx.needs_input_grad[1] else None
    return d_x, d_weight, d_bias, None


def _save_act(ctx, inputs, output):
    _, y, ctx.activate = inputs
    ctx.save_for_backward(y)


def _act_double_backward(ctx, grad, grad_bias):
    """act_backward is linear in its gradient, and its slopes are constant almost everywhere."""
    (y,) = ctx.saved_tensors
    return _through_act(grad + grad_bias, y, ctx.activate), None, None


torch.library.register_autograd("eidgan::modulated_weights", _weights_backward, setup_context=_save_weights, lib=LIBRARY)
torch.library.register_autograd("eidgan::linear_act", _linear_backward, setup_context=_save_linear, lib=LIBRARY)
torch.library.register_autograd("eidgan::act_backward", _act_double_backward, setup_context=_save_act, lib=LIBRARY)


def modulated_linear(x, weight, style, bias, *, spectrum, demodulate, activate, gain):
    """The public function through the registered operators, on any device."""
    parts = None if spectrum is None else torch.view_as_real(spectrum)
    prepared = torch.ops.eidgan.modulated_weights(weight, style, parts, demodulate, gain, x.dtype)
    if x.ndim == 2:
        x = x.expand(prepared.shape[0], -1, -1)
    return torch.ops.eidgan.linear_act(x, prepared, (bias * gain).to(x.dtype), activate)
