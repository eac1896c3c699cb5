"""Building networks without the memory of their weights, to compare names and shapes.

The weights stand on torch's meta device, where a tensor has only a shape. Under
`torch.device("meta")` alone, PyTorch would compute initial weights in Python, and import
`torch._dynamo` and sympy for it: 2 s of processor time and 150 MiB in every command that loads a
network. So here nothing is computed with weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWS = {torch.randn, torch.rand, torch.empty}
_CONSTANTS = {torch.zeros, torch.ones, torch.full}
_PRODUCTS = {torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__}


class WithoutMemory(TorchFunctionMode):
    """In a block `with WithoutMemory():`, weights of networks are built on the meta device.

    Random draws and constants are weights. A weight times a number, and `torch.nn.init` of a
    weight, are that weight. Other tensors, such as the kernel of a low-pass filter, are computed.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in _DRAWS:
            return torch.empty(*args, **options | {"device": "meta"})
        if func in _CONSTANTS:
            return func(*args, **options | {"device": "meta"})
        if func in _PRODUCTS and args[0].is_meta and isinstance(args[1], (int, float)):
            return args[0]
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else options["tensor"]
        return func(*args, **options)
