"""The registered operators of `biline_decode` and `biline_render`, with one autograd formula.

The formula serves every device. The forward of `biline_decode` saves only its inputs; the backward
recomputes the activations tile by tile. The second derivative is autograd's derivative of the plain
form; a third derivative raises. `biline_render` is for inference, so any derivative of it raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torch_utils.ops.biline import reference, tiles
from torch_utils.ops.biline.packing import mlp_shapes, unpack
from torch_utils.ops.constants import constant_when_compiled

MAX_LEVELS = 16  # of biline_render; kMaxLevels in cuda/biline.h
LIBRARY = torch.library.Library("eidgan", "FRAGMENT")
LIBRARY.define(
    "biline_decode(Tensor features, Tensor rows, Tensor columns, Tensor params, "
    "int[] widths) -> Tensor"
)
LIBRARY.define(
    "biline_decode_backward(Tensor grad, Tensor features, Tensor rows, Tensor columns, "
    "Tensor params, int[] widths) -> (Tensor, Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    "biline_render(Tensor[] rows, Tensor[] columns, Tensor decoders, Tensor refinement, "
    "int[] widths, int[] refinement_widths) -> Tensor"
)

for _name, _kernel in {
    "biline_decode": tiles.decode,
    "biline_decode_backward": tiles.decode_backward,
    "biline_render": tiles.render,
}.items():
    LIBRARY.impl(_name, _kernel, "CompositeExplicitAutograd")


@torch.library.register_fake("eidgan::biline_decode", lib=LIBRARY)
def _(
    features: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    params: torch.Tensor,
    widths: list[int],
) -> torch.Tensor:
    return features.new_empty(features.shape)


@torch.library.register_fake("eidgan::biline_decode_backward", lib=LIBRARY)
def _(
    grad: torch.Tensor,
    features: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    params: torch.Tensor,
    widths: list[int],
) -> tuple[torch.Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (features, rows, columns, params))


@torch.library.register_fake("eidgan::biline_render", lib=LIBRARY)
def _(
    rows: list[torch.Tensor],
    columns: list[torch.Tensor],
    decoders: torch.Tensor,
    refinement: torch.Tensor,
    widths: list[int],
    refinement_widths: list[int],
) -> torch.Tensor:
    batch, height = rows[0].shape[:2]
    return rows[0].new_empty(
        batch,
        3,
        height,
        columns[0].shape[1],
        dtype=torch.promote_types(rows[0].dtype, torch.float32),
    )


@constant_when_compiled
def covers(operator: str, device: str, dtype: torch.dtype, *sizes: Sequence[int] | int) -> bool:
    """Whether a kernel of `operator` exists for `device`, `dtype` and `sizes`; for CPUs always.

    sizes: the widths of the MLP; then, for biline_decode_backward, the thickness D, and for
    biline_render, the widths of the refinement.
    """
    return device == "cpu" or getattr(torch.ops.eidgan, f"{operator}_covers")(dtype, *sizes)


def _save_inputs(ctx: Any, inputs: tuple, output: object) -> None:
    *tensors, ctx.widths = inputs
    ctx.save_for_backward(*tensors)


def _decode_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return *torch.ops.eidgan.biline_decode_backward(grad, *ctx.saved_tensors, ctx.widths), None


def plain(
    features: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    params: torch.Tensor,
    widths: Sequence[int],
) -> torch.Tensor:
    """The value of biline_decode, computed in plain PyTorch with autograd's derivatives."""
    weights, biases = zip(*unpack(params, mlp_shapes(widths)), strict=True)
    return reference.biline_decode(features, rows, columns, weights, biases)


def _decode_double_backward(
    ctx: Any, *grads: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "biline_decode has first and second derivatives only; use --ops ref for higher ones"
        )
    with torch.enable_grad():
        grad, *inputs = (x.detach().requires_grad_() for x in ctx.saved_tensors)
        features, rows, columns, params = inputs
        out = plain(features, rows, columns, params.to(features.dtype), ctx.widths)
        first = torch.autograd.grad(out, inputs, grad, create_graph=True)
        outputs, cotangents = zip(
            *((x, g) for x, g in zip(first, grads, strict=True) if g is not None), strict=True
        )
        second = torch.autograd.grad(outputs, [grad, *inputs], cotangents, allow_unused=True)
    return *second, None


def _no_derivative(ctx: Any, *grads: torch.Tensor | None) -> None:
    raise RuntimeError(
        "biline_render has no derivative; under autograd use biline_decode level by level"
    )


torch.library.register_autograd(
    "eidgan::biline_decode", _decode_backward, setup_context=_save_inputs, lib=LIBRARY
)
torch.library.register_autograd(
    "eidgan::biline_decode_backward",
    _decode_double_backward,
    setup_context=_save_inputs,
    lib=LIBRARY,
)
torch.library.register_autograd("eidgan::biline_render", _no_derivative, lib=LIBRARY)
