"""The precision of forward passes: bf16 autocast on devices that are fast at it, else float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices faster than float32 matrices.

    That holds for GPUs from Ampere on and for CPUs with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def resolve(device: torch.device, precision: str = "auto") -> str:
    """Replace `auto` by `bf16` or `fp32`, whichever suits the device; keep any other value."""
    return ("bf16" if has_fast_bf16(device) else "fp32") if precision == "auto" else precision


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """A context in which forward passes run in the precision `resolve(device, precision)`."""
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=resolve(device, precision) == "bf16"
    )


@contextlib.contextmanager
def no_tf32() -> Iterator[None]:
    """A context in which float32 operations on GPUs compute in full float32.

    By default cuDNN rounds the inputs of convolutions to the 10 mantissa bits of TF32. The context
    reads and sets `fp32_precision`, because the older `allow_tf32` raises if the user has set
    `fp32_precision`.
    """
    backends: Any = torch.backends  # its attributes are made at run time
    operations = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
    before = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        yield
    finally:
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision


def at_least_single(x: torch.Tensor) -> torch.Tensor:
    """Convert float16 and bfloat16 tensors to float32; return any other tensor as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """A context without autocast.

    `torch.autocast` refuses the meta device. Nothing is computed there, so no context is needed.
    """
    return (
        contextlib.nullcontext()
        if device.type == "meta"
        else torch.autocast(device.type, enabled=False)
    )
