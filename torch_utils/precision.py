"""Which precision a forward runs in: bf16 autocast on GPUs that have it, float32 elsewhere."""

from __future__ import annotations

import torch


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """A context for forwards: `auto` is bf16 on GPUs that compute it at full speed, `bf16` anywhere, `fp32` nowhere."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    enabled = precision == "bf16" or (precision == "auto" and native)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
