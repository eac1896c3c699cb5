"""Operators of which the project owns a formula. One folder each: public contract in `__init__.py`, plain PyTorch in
`reference.py`; fused CUDA kernels, where they exist, sit beside the reference and share its autograd formula.
"""

from __future__ import annotations

from dnnlib.errors import UserError


def check_backend(ops: str) -> str:
    """Turn `--ops auto|cuda|ref` into the implementation that will run. Raises `UserError` where it cannot.

    This version holds the references only, so `auto` is `ref` and `cuda` never falls back.
    """
    if ops not in ("auto", "cuda", "ref"):
        raise UserError(f"--ops {ops}: expected auto, cuda or ref")
    if ops == "cuda":
        raise UserError("--ops cuda: this version has no fused CUDA operators; use --ops auto or --ops ref")
    return "ref"
