"""The mark of functions whose result `torch.compile` takes as a constant.

PyTorch's function for it imports `torch._dynamo`, which takes 2 s of processor time and 150 MiB.
Processes that compile nothing do without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def constant_when_compiled(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Mark `function`, as `torch.compiler.assume_constant_result` does, and return it.

    That function sets the same attribute, which a test checks, but imports `torch._dynamo` first.
    """
    vars(function)["_dynamo_marked_constant"] = True
    return function
