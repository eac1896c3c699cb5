"""The choice between implementations of an operator: `--ops auto|cuda|ref`.

The environment variable EIDGAN_OPS replaces the flag's default, `auto`.

auto: for CUDA tensors the plugins if they can be built, else plain PyTorch with one warning; for
CPU tensors the form that was measured to be faster (docs/ops.md).
cuda: as auto, but a plugin that cannot be built is an error.
ref: plain PyTorch with autograd's derivatives everywhere, the reference of tests and benchmarks.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from dnnlib.errors import UserError
from torch_utils.ops.constants import constant_when_compiled

CHOICES = ("auto", "cuda", "ref")
VARIABLE = "EIDGAN_OPS"


@dataclass
class _State:
    flag: str = "auto"
    # name of a plugin -> the reason why it cannot be loaded; None = it is loaded
    plugins: dict[str, str | None] = field(default_factory=dict)
    warned: bool = False


_state = _State()


def chosen() -> str:
    """Return auto, cuda or ref: the flag, or EIDGAN_OPS if the flag is auto.

    Raises `UserError` for another value of EIDGAN_OPS.
    """
    choice = _state.flag if _state.flag != "auto" else os.environ.get(VARIABLE) or "auto"
    if choice not in CHOICES:
        raise UserError(f"{VARIABLE}={choice}: expected auto, cuda or ref")
    return choice


def check_backend(ops: str, device: torch.device | str = "cpu") -> str:
    """Set `--ops auto|cuda|ref` for this process and return a description of what runs on `device`.

    If the device is a CUDA device or `ops` is `cuda`, every plugin is built and loaded now. So no
    training step waits for a build, and a failure shows before any work is done. Raises `UserError`
    for an unknown value, and if `cuda` is impossible.
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
        reason = str(_state.plugins[missing[0]]).splitlines()[0]
        return f"plain PyTorch ({', '.join(missing)}: {reason})"
    return "CUDA kernels" if on_cuda else "plain PyTorch"


@contextlib.contextmanager
def using(ops: str) -> Iterator[None]:
    """Set `--ops` until the block ends; for tests and benchmarks."""
    before = _state.flag
    check_backend(ops)
    try:
        yield
    finally:
        _state.flag = before


@constant_when_compiled
def registered(name: str, device: str, cpu: bool) -> bool:
    """Whether calls on `device` go to the registered operators of the plugin `name`.

    device: the type, such as "cpu" or "cuda". cpu: the answer for CPUs if `--ops` is not ref.
    """
    choice = chosen()
    if choice == "ref":
        return False
    if device == "cuda":
        return _load(name, choice)
    return cpu and device == "cpu"


def compute_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype of autocast if it is enabled and applies to x, else the dtype of x.

    Autocast does not see inside a registered operator, so the caller must cast its inputs.
    """
    kind = x.device.type
    known = kind in ("cpu", "cuda") and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
    return torch.get_autocast_dtype(kind) if known and torch.is_autocast_enabled(kind) else x.dtype


def _load(name: str, choice: str) -> bool:
    """Build and load a plugin once -> whether it is loaded. Raises `UserError` under `cuda`."""
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
