"""What to say when memory runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from dnnlib.errors import UserError


@contextlib.contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """Memory that runs out inside the block, on the GPU or off it, becomes a `UserError` with the remedy."""
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
