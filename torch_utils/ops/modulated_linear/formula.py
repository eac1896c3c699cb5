"""The registered operators of `modulated_linear`, each with one autograd formula for all devices.

- `modulated_weights`: style, spectral fold and demodulation.
- `modulated_weights_backward`: the gradients of its three inputs. The derivatives of this operator
  are autograd's derivatives of the plain form, so every order exists.
- `linear_act`: GEMM with bias and leaky ReLU.
- `act_backward`: the gradient through the activation, and its sum, which is the bias' gradient.

The kernels registered here are plain PyTorch; the CUDA plugin replaces them for CUDA tensors.

With u = W diag(s), v = irfft(conj(g) rfft(u)), d = (|v|^2 + eps)^(-1/2), y = v d and W' = gain y,
the gradients are, row by row:
    dv = gain d (dW' - y <y, dW'>),  du = irfft(g rfft(dv)),  dW = sum_n du s,  ds = sum_o du W,
    dg_k = c_k / C sum_o conj(rfft(dv)_k) rfft(u)_k,  c = 1 at frequency 0 and C / 2, else 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_utils.ops.modulated_linear import reference, samples
from torch_utils.ops.modulated_linear.reference import LEAKY_SLOPE
from torch_utils.precision import no_autocast

LIBRARY = torch.library.Library("eidgan", "FRAGMENT")
LIBRARY.define(
    "modulated_weights(Tensor weight, Tensor style, Tensor? spectrum, bool demodulate, float gain, "
    "ScalarType dtype) -> Tensor"
)
LIBRARY.define(
    "modulated_weights_backward(Tensor grad, Tensor weight, Tensor style, "
    "Tensor? spectrum, bool demodulate, float gain) -> (Tensor, Tensor, Tensor)"
)
LIBRARY.define("linear_act(Tensor x, Tensor weight, Tensor bias, bool activate) -> Tensor")
LIBRARY.define("act_backward(Tensor grad, Tensor y, bool activate) -> (Tensor, Tensor)")


def _linear_act(x: Tensor, weight: Tensor, bias: Tensor, activate: bool) -> Tensor:
    y = torch.baddbmm(bias, x, weight.transpose(1, 2))
    return torch.nn.functional.leaky_relu(y, LEAKY_SLOPE, inplace=True) if activate else y


def _through_act(grad: Tensor, y: Tensor, activate: bool) -> Tensor:
    """The gradient of the input of leaky ReLU, from the gradient of its output y and y itself."""
    return torch.ops.aten.leaky_relu_backward(grad, y, LEAKY_SLOPE, True) if activate else grad


def _act_backward(grad: Tensor, y: Tensor, activate: bool) -> tuple[Tensor, Tensor]:
    grad = _through_act(grad, y, activate)
    sum_dtype = torch.promote_types(grad.dtype, torch.float32)
    return grad.clone(), grad.sum(dim=(0, 1), dtype=sum_dtype).to(grad.dtype)


for _name, _kernel in {
    "modulated_weights": samples.weights,
    "modulated_weights_backward": samples.weights_backward,
    "linear_act": _linear_act,
    "act_backward": _act_backward,
}.items():
    LIBRARY.impl(_name, _kernel, "CompositeExplicitAutograd")


@torch.library.register_fake("eidgan::modulated_weights", lib=LIBRARY)
def _(
    weight: Tensor,
    style: Tensor,
    spectrum: Tensor | None,
    demodulate: bool,
    gain: float,
    dtype: torch.dtype,
) -> Tensor:
    return weight.new_empty(style.shape[0], *weight.shape, dtype=dtype)


@torch.library.register_fake("eidgan::modulated_weights_backward", lib=LIBRARY)
def _(
    grad: Tensor,
    weight: Tensor,
    style: Tensor,
    spectrum: Tensor | None,
    demodulate: bool,
    gain: float,
) -> tuple[Tensor, ...]:
    inputs = weight, style, style.new_empty(0) if spectrum is None else spectrum
    return tuple(x.new_empty(x.shape) for x in inputs)


@torch.library.register_fake("eidgan::linear_act", lib=LIBRARY)
def _(x: Tensor, weight: Tensor, bias: Tensor, activate: bool) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], weight.shape[1])


@torch.library.register_fake("eidgan::act_backward", lib=LIBRARY)
def _(grad: Tensor, y: Tensor, activate: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(grad), grad.new_empty(grad.shape[-1])


def _save_weights(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    weight, style, spectrum, ctx.demodulate, ctx.gain, _ = inputs
    ctx.save_for_backward(weight, style, spectrum)


def _weights_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    d_weight, d_style, d_spectrum = torch.ops.eidgan.modulated_weights_backward(
        grad, *ctx.saved_tensors, ctx.demodulate, ctx.gain
    )
    return d_weight, d_style, None if ctx.saved_tensors[2] is None else d_spectrum, None, None, None


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.demodulate, ctx.gain = inputs
    ctx.save_for_backward(*tensors)


def _plain_weights(
    weight: Tensor, style: Tensor, spectrum: Tensor | None, demodulate: bool, gain: float
) -> Tensor:
    """The value of modulated_weights, computed in plain PyTorch with autograd's derivatives."""
    filters = None if spectrum is None else torch.view_as_complex(spectrum.contiguous())
    return reference.modulated_weights(weight, style, filters, demodulate=demodulate, gain=gain)


def _alias(x: Tensor) -> Tensor:
    """A tensor equal to x. A derivative with respect to it ignores how x was computed."""
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()


def _weights_double_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
    """Autograd's derivative of the plain form's first derivative; higher orders exist too."""
    higher_order = torch.is_grad_enabled()
    with torch.enable_grad(), no_autocast(ctx.saved_tensors[0].device):
        # The saved gradient may itself be a function of the other inputs. Derivatives with respect
        # to aliases do not follow that dependence.
        grad, *inputs = (_alias(x) for x in ctx.saved_tensors if x is not None)
        spectrum = inputs[2] if len(inputs) == 3 else None
        out = _plain_weights(inputs[0], inputs[1], spectrum, ctx.demodulate, ctx.gain)
        first = torch.autograd.grad(out, inputs, grad.to(out.dtype), create_graph=True)
        pairs = zip(first, cotangents[: len(first)], strict=True)
        outputs, grad_outputs = zip(*((x, g) for x, g in pairs if g is not None), strict=True)
        second = torch.autograd.grad(
            outputs, [grad, *inputs], grad_outputs, create_graph=higher_order, allow_unused=True
        )
    return *second, *[None] * (6 - len(second))


def _save_linear(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, _, ctx.activate = inputs
    ctx.save_for_backward(x, weight, output)


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, y = ctx.saved_tensors
    grad, d_bias = torch.ops.eidgan.act_backward(grad, y, ctx.activate)
    d_x = torch.bmm(grad, weight) if ctx.needs_input_grad[0] else None
    d_weight = torch.bmm(grad.transpose(1, 2), x) if ctx.needs_input_grad[1] else None
    return d_x, d_weight, d_bias, None


def _save_act(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, y, ctx.activate = inputs
    ctx.save_for_backward(y)


def _act_double_backward(ctx: Any, grad: Tensor, grad_bias: Tensor) -> tuple[Tensor, None, None]:
    """The derivative of act_backward with respect to its gradient.

    act_backward is linear in the gradient, and the slopes of leaky ReLU are constant almost
    everywhere.
    """
    (y,) = ctx.saved_tensors
    return _through_act(grad + grad_bias, y, ctx.activate), None, None


torch.library.register_autograd(
    "eidgan::modulated_weights", _weights_backward, setup_context=_save_weights, lib=LIBRARY
)
torch.library.register_autograd(
    "eidgan::modulated_weights_backward",
    _weights_double_backward,
    setup_context=_save_gradients,
    lib=LIBRARY,
)
torch.library.register_autograd(
    "eidgan::linear_act", _linear_backward, setup_context=_save_linear, lib=LIBRARY
)
torch.library.register_autograd(
    "eidgan::act_backward", _act_double_backward, setup_context=_save_act, lib=LIBRARY
)


def modulated_linear(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor,
    *,
    spectrum: Tensor | None,
    demodulate: bool,
    activate: bool,
    gain: float,
) -> Tensor:
    """The public `modulated_linear`, computed by the registered operators on any device."""
    parts = None if spectrum is None else torch.view_as_real(spectrum)
    prepared = torch.ops.eidgan.modulated_weights(weight, style, parts, demodulate, gain, x.dtype)
    if x.ndim == 2:
        x = x.expand(prepared.shape[0], -1, -1)
    return torch.ops.eidgan.linear_act(x, prepared, (bias * gain).to(x.dtype), activate)
