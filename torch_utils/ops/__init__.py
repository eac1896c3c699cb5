"""The project's operators, one folder each.

`__init__.py` holds the public function with its contract, `reference.py` the plain PyTorch form,
`formula.py` the registered operators with their derivatives, and `cuda/` the CUDA kernels.
"""

from __future__ import annotations

from torch_utils.ops.backend import check_backend

__all__ = ["check_backend"]
