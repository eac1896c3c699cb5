"""The memory of tensors: how much lives at a time, and error messages where it runs out."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from dnnlib.errors import UserError

BLOCK = 512  # PyTorch's allocator for CUDA gives memory in multiples of this


class LiveMemory(TorchDispatchMode):
    """A context that counts the bytes of all storages that operators make and that still live.

    It counts real tensors, and fake ones, which have sizes and no memory. Memory that an operator
    takes and frees within itself is not seen. A number that the program reads from a fake tensor
    is 1, and False if it is a bool.

    now, peak: bytes that live now, and the most since the start or the last `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}  # by the address of the storage

    def restart(self) -> None:
        """Begin a new peak."""
        self.peak = self.now

    def add(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor that was made before."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = -(-storage.nbytes() // BLOCK) * BLOCK
            weakref.finalize(storage, self._remove, key)
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)

    def _remove(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        reads = operator is torch.ops.aten._local_scalar_dense.default
        if reads and isinstance(args[0], FakeTensor):
            return False if args[0].dtype == torch.bool else 1
        result = operator(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self.add(value)
        return result


@contextlib.contextmanager
def memory_errors(remedy: str | Callable[[], str]) -> Iterator[None]:
    """Turn an out-of-memory error of the block, on GPU or CPU, into a `UserError`.

    remedy: the part of the message that says what the user can do, or a function that returns it,
        which is called after the error.
    """
    try:
        yield
    except Exception as error:
        if not is_memory_error(error):
            raise
        text = str(error).splitlines()[0] if str(error) else ""
        advice = remedy if isinstance(remedy, str) else remedy()
        raise UserError(
            f"out of memory: {advice} ({text.removeprefix('CUDA out of memory. ')[:120]})"
        ) from None


def is_memory_error(error: Exception) -> bool:
    """Whether Python, or PyTorch on a GPU or a CPU, could not allocate memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error).partition("\n")[0]
