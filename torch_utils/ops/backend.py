"""Which implementation of an operator runs: `--ops auto|cuda|ref`, or the variable EIDGAN_OPS where the flag says auto.

auto: CUDA tensors go to the plugins if they build, else to plain PyTorch with one warning; CPU tensors to whichever
form measured faster (docs/ops.md). cuda: as auto, but a plugin that does not build is an error. ref: plain PyTorch with
its own autograd everywhere, the yardstick of tests and benchmarks.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from dnnlib.errors import UserError

CHOICES = ("auto", "cuda", "ref")
VARIABLE = "EIDGAN_OPS"


@dataclass
class _State:
    flag: str = "auto"
    plugins: dict[str, str | None] = field(
        default_factory=dict
    )  # name -> why it is missing, None = loaded
    warned: bool = False


_state = _State()


def chosen() -> str:
    """auto, cuda or ref: the flag, or the variable where the flag leaves it open. Raises `UserError`."""
    choice = _state.flag if _state.flag != "auto" else os.environ.get(VARIABLE) or "auto"
    if choice not in CHOICES:
        raise UserError(f"{VARIABLE}={choice}: expected auto, cuda or ref")
    return choice


def check_backend(ops: str, device: torch.device | str = "cpu") -> str:
    """Take over `--ops auto|cuda|ref`; returns what runs on `device`, in words. Raises `UserError` where `cuda` cannot be.

    For a CUDA device, and with `cuda` always, every plugin is built and loaded now: no step waits for it, and a failure
    shows before any work is done.
    """
    if ops not in CHOICES:
        raise UserError(f"--ops {ops}: expected auto, cuda or ref")
    _state.flag = ops
    choice, on_cuda = chosen(), torch.device(device).type == "cuda"
    if choice == "cuda" and not torch.cuda.is_available():
        raise UserError("--ops cuda: PyTorch sees no CUDA device; use --ops auto or --ops ref")
    if choice == "ref":
        return "plain PyTorch (ref)"
    from torch_utils.ops.build import PLUGINS

    missing = (
        [name for name in PLUGINS if not _load(name, choice)] if on_cuda or choice == "cuda" else []
    )
    if missing:
        return f"plain PyTorch ({', '.join(missing)}: {str(_state.plugins[missing[0]]).splitlines()[0]})"
    return "CUDA kernels" if on_cuda else "plain PyTorch"


@contextlib.contextmanager
def using(ops: str) -> Iterator[None]:
    """`--ops` for the length of a `with` block (tests and benchmarks)."""
    before = _state.flag
    check_backend(ops)
    try:
        yield
    finally:
        _state.flag = before


@torch.compiler.assume_constant_result
def registered(name: str, device: str, cpu: bool) -> bool:
    """Whether calls on `device` ("cpu", "cuda", ...) go to the registered operators of plugin `name`; `cpu`: do they on CPUs."""
    choice = chosen()
    if choice == "ref":
        return False
    if device == "cuda":
        return _load(name, choice)
    return cpu and device == "cpu"


def compute_dtype(x: torch.Tensor) -> torch.dtype:
    """x's dtype, or autocast's: inside an opaque operator nothing else would apply it."""
    kind = x.device.type
    known = kind in ("cpu", "cuda") and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
    return torch.get_autocast_dtype(kind) if known and torch.is_autocast_enabled(kind) else x.dtype


def _load(name: str, choice: str) -> bool:
    if name not in _state.plugins:
        from torch_utils.ops.build import BuildError, load

        try:
            load(name)
            _state.plugins[name] = None
        except BuildError as error:
            _state.plugins[name] = str(error)
    problem = _state.plugins[name]
    if problem is None:
        return True
    if choice == "cuda":
        raise UserError(f"--ops cuda: {problem}")
    if not _state.warned:
        _state.warned = True
        warnings.warn(
            f"CUDA operators are off, plain PyTorch runs instead: {problem}",
            RuntimeWarning,
            stacklevel=3,
        )
    return False
