"""Which precision a forward runs in: bf16 autocast on devices that are fast at it, float32 elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices faster than float32: GPUs from Ampere, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def resolve(device: torch.device, precision: str = "auto") -> str:
    """`bf16` or `fp32`: what `auto` means on this device; the two themselves as they are."""
    return ("bf16" if has_fast_bf16(device) else "fp32") if precision == "auto" else precision


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """A context for forwards in `resolve(device, precision)`."""
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=resolve(device, precision) == "bf16"
    )


@contextlib.contextmanager
def no_tf32() -> Iterator[None]:
    """Float32 on GPUs means float32: cuDNN rounds convolutions to TF32's 10 bits by default.

    Reads and sets `fp32_precision`. The older `allow_tf32` raises where `fp32_precision` was set.
    """
    backends: Any = torch.backends  # its attributes are made at run time
    places = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


def at_least_single(x: torch.Tensor) -> torch.Tensor:
    """x in float32 where it has 16 bits, else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """A context in which nothing is autocast; torch's own refuses the meta device, where nothing is computed."""
    return (
        contextlib.nullcontext()
        if device.type == "meta"
        else torch.autocast(device.type, enabled=False)
    )
