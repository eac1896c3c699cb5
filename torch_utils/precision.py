"""Which precision a forward runs in: bf16 autocast on devices that have it, float32 elsewhere."""

from __future__ import annotations

import torch


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices faster than float32: GPUs from Ampere, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """A context for forwards: `auto` is bf16 where the device is fast at it, `bf16` anywhere, `fp32` nowhere."""
    enabled = precision == "bf16" or (precision == "auto" and has_fast_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
