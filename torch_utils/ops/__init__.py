"""Operators of which the project owns a formula. One folder each: the contract in `__init__.py`, plain PyTorch in
`reference.py`, the registered operators with their derivatives in `formula.py`, CUDA kernels in `cuda/`.
"""

from __future__ import annotations

from torch_utils.ops.backend import check_backend

__all__ = ["check_backend"]
