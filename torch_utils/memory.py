"""Error messages for memory that runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from dnnlib.errors import UserError


@contextlib.contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error of the block, on GPU or CPU, into a `UserError`.

    remedy: the part of the message that says what the user can do.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error).splitlines()[0] if str(error) else ""
        if (
            isinstance(error, RuntimeError)
            and not isinstance(error, torch.OutOfMemoryError)
            and "allocate memory" not in text
        ):
            raise
        raise UserError(
            f"out of memory: {remedy} ({text.removeprefix('CUDA out of memory. ')[:120]})"
        ) from None
