"""Reading safetensors files, with a bound on their header. All such files are read by this module.

A file begins with the length of its header as eight bytes, little endian. The header is JSON, which
takes many times its length in memory. The library itself allows 100 MB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dnnlib.errors import UserError, library_errors

MAX_HEADER_BYTES = 8 << 20  # a hundred bytes for each of 80,000 tensors


@contextmanager
def open_tensors(path: str | os.PathLike) -> Iterator[Any]:
    """Open a safetensors file, which has `keys()`, `metadata()` and `get_tensor(name)`.

    Raises `SafetensorError` for a damaged file and for a header that is larger than any network
    needs, and `OSError` for a file that cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise SafetensorError(
            f"its header would have {length} bytes, and at most {MAX_HEADER_BYTES} are read"
        )
    with safe_open(path, framework="pt") as tensors:
        yield tensors


def load_tensors(path: str | os.PathLike) -> dict[str, Any]:
    """All tensors of a safetensors file by name, on the CPU. Raises as `open_tensors` does."""
    with open_tensors(path) as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}


def load_weights(path: str | os.PathLike) -> dict[str, Any]:
    """The trained tensors of a safetensors file by name, on the CPU.

    Raises `UserError` that names the file if it is damaged or if a number is not finite.
    """

    def damaged(reason: str) -> UserError:
        return UserError(f"{path} is not a safetensors file ({reason}); copy it again")

    with library_errors(damaged):
        tensors = load_tensors(path)
    for name, tensor in tensors.items():
        # Numbers of 8 bits, which no network here has, do not know isfinite.
        if tensor.element_size() > 1 and not tensor.isfinite().all():
            raise UserError(
                f"{path}: tensor {name!r} is not finite, because training diverged; "
                "take an earlier snapshot"
            )
    return tensors
