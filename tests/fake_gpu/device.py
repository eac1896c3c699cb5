"""A CUDA device without numbers: fake tensors on `cuda:0`, real ones on the CPU, and the rules of a
training step.

A fake tensor has a shape, a type and a device. So networks, losses and optimisers run here through
every branch that asks for `cuda`, and an operator that mixes devices or types fails as it would on
a GPU. Within `rules()` whatever makes the program wait for the device fails too, and names its
line: to read a number, to copy to the CPU, to copy from memory that is not page-locked, and
operators whose result's shape depends on numbers (`nonzero`, `unique`, an index that is a mask). A
result in float64 fails where `FLOAT64` does not name the file. Within `captured()`, as in a CUDA
graph, every copy from the CPU fails: a replay would read memory that has other content by then.
"""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fake_gpu import engine
from torch_utils.ops import backend
from torch_utils.ops.biline import formula

ROOT = Path(__file__).parents[2]
CUDA = torch.device("cuda", 0)
FLOAT64 = {
    "networks/coordinates.py": "coordinates are rounded once, at the end",
    "networks/patches.py": "places of patches are rounded once, at the end",
    "training/augment.py": "p is one number, and a step of it less than float32 holds",
}
aten = torch.ops.aten
# They compute nothing: float64 that comes out has gone in, and its source was checked.
MOVES = {
    *(aten.slice.Tensor, aten.view.default, aten.unsqueeze.default, aten.expand.default),
    *(aten.clone.default, aten.copy_.default, aten._to_copy.default),
}
PUTS = {aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
ONE_TYPE = {  # kernels that take one floating type; the shape functions of fake tensors do not ask
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten.mv.default,
    aten.addmv.default,
    aten.dot.default,
    aten.convolution.default,
    aten.convolution_backward.default,
    aten.grid_sampler_2d.default,
}


class DeviceFault(AssertionError):
    """What a training step may not do; the message begins with the line that does it."""


def line_of_the_program() -> str:
    """Where the program, not a library or a test, is now."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] not in ("tests", ".venv"):
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "a test"


class FakeGpu(TorchDispatchMode):
    """Runs operators on fake tensors of `cuda:0`, counted in `operators`, and on real CPU ones."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.strict, self.capturing, self.operators = False, False, 0
        self.pinned: dict[int, torch.Tensor] = {}  # storage -> a tensor of it, which keeps it alive

    @contextlib.contextmanager
    def rules(self) -> Iterator[None]:
        """The rules of a training step hold in the block."""
        outer, self.strict = self.strict, True
        try:
            yield
        finally:
            self.strict = outer

    @contextlib.contextmanager
    def captured(self) -> Iterator[None]:
        """The rules of a CUDA graph hold in the block, as well as those of a training step."""
        self.capturing = True
        try:
            with self.rules():
                yield
        finally:
            self.capturing = False

    def fault(self, what: str) -> None:
        if self.strict:
            raise DeviceFault(f"{line_of_the_program()}: {what}")

    def is_pinned(self, x: torch.Tensor) -> bool:
        return x.untyped_storage()._cdata in self.pinned

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operator is torch.ops.prim.device.default:
            return args[0].device
        fake, real = _tensors([*args, *kwargs.values()])
        device = torch.device(kwargs.get("device") or "cpu")
        if not fake and device.type != "cuda":
            return self._on_cpu(operator, args, kwargs)
        self.operators += 1
        if not fake and not real:
            return self._checked(operator, args, kwargs)
        if operator is aten._to_copy.default:
            return self._to_copy(*args, **kwargs)
        if operator is aten.copy_.default and real:
            return self._copy_(*args, **kwargs)
        if operator is aten._local_scalar_dense.default:
            self.fault("reads a number, which waits for the device")
            return False if args[0].dtype == torch.bool else 1
        if real and (operator is aten.where.self or operator in PUTS):
            self.fault(f"{operator} copies a number from the CPU, which waits for the device")
        if operator in PUTS and any(x is not None and x.dtype == torch.bool for x in args[1]):
            self.fault(f"{operator} by a mask waits for the device")
        if operator in ONE_TYPE and len({x.dtype for x in fake if x.is_floating_point()}) > 1:
            types = ", ".join(str(x.dtype) for x in fake)
            raise DeviceFault(f"{line_of_the_program()}: {operator} of {types}")
        return self._checked(operator, args, kwargs)

    def _on_cpu(self, operator, args: tuple, kwargs: dict[str, Any]) -> Any:
        if operator is aten.is_pinned.default:
            return self.is_pinned(args[0])
        with unset_fake_temporarily():
            if operator is not aten._pin_memory.default:
                return operator(*args, **kwargs)
            pinned = args[0].clone()
        self.pinned[pinned.untyped_storage()._cdata] = pinned
        return pinned

    def _checked(self, operator, args: tuple, kwargs: dict[str, Any]) -> Any:
        try:
            result = operator(*args, **kwargs)  # the fake mode is active below this one
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            line = line_of_the_program()
            raise DeviceFault(f"{line}: {error.func} depends on numbers, so it waits") from None
        moved = operator in MOVES and args[0].dtype == torch.float64
        for x in _tensors([result])[0] if self.strict and not moved else ():
            if x.dtype == torch.float64 and line_of_the_program().partition(":")[0] not in FLOAT64:
                self.fault(f"{operator} gives float64")
        return result

    def _to_copy(
        self, x: torch.Tensor, *, non_blocking: bool = False, device=None, **options
    ) -> torch.Tensor:
        target = x.device if device is None else torch.device(device)
        if x.device.type == "cuda" and target.type == "cpu":
            self.fault("copies to the CPU, which waits for the device")
            with unset_fake_temporarily():
                return torch.zeros(x.shape, dtype=options.get("dtype") or x.dtype)
        if x.device.type == "cpu":
            self._from_cpu(x, non_blocking)
            x = self.fake.from_tensor(x)
        return self._checked(aten._to_copy.default, (x,), {"device": target, **options})

    def _copy_(
        self, target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False
    ) -> torch.Tensor:
        if target.device.type == "cpu":
            self.fault("copies to the CPU, which waits for the device")
        else:
            self._from_cpu(source, non_blocking)
        return target

    def _from_cpu(self, x: torch.Tensor, non_blocking: bool) -> None:
        if self.capturing:
            self.fault(f"copies {tuple(x.shape)} from the CPU, which a CUDA graph does only once")
        if not non_blocking or not self.is_pinned(x):
            memory = "page-locked" if self.is_pinned(x) else "pageable"
            how = f"from {memory} memory of the CPU, non_blocking={non_blocking}"
            self.fault(f"copies {tuple(x.shape)} {how}, which waits")


def _tensors(values: list) -> tuple[list[FakeTensor], list[torch.Tensor]]:
    """(fake, real) tensors among values and lists of values."""
    fake: list[FakeTensor] = []
    real: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            (fake if isinstance(value, FakeTensor) else real).append(value)
        elif isinstance(value, (list, tuple)):
            for found, more in zip((fake, real), _tensors(value), strict=False):
                found += more
    return fake, real


def _for_real(function: Callable) -> Callable:
    """The function, undisturbed by fake tensors: what it reads from a file are numbers."""

    def undisturbed(*args, **kwargs):
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return undisturbed


@contextlib.contextmanager
def fake_gpu(*, kernels: bool = True) -> Iterator[FakeGpu]:
    """The device for the length of the block. kernels: the CUDA operators count as built; without,
    everything is plain PyTorch.

    Gradients come from `engine`: PyTorch's own asks CUDA for streams.
    """
    gpu = FakeGpu()
    patches = [
        mock.patch.object(torch, "load", _for_real(torch.load)),
        mock.patch.object(torch.autograd, "grad", engine.grad),
        mock.patch.object(torch.Tensor, "backward", engine.backward),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        mock.patch("torch.cuda.is_bf16_supported", lambda *args, **kwargs: True),
        mock.patch.object(backend, "_load", lambda name, choice: kernels),
        mock.patch.object(formula, "covers", lambda *sizes: True),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        # copy.deepcopy asks for it.
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        for context in (*patches, gpu.fake, gpu):
            stack.enter_context(context)
        yield gpu
