"""Reading safetensors files, with a bound on their header. All such files are read by this module.

A file begins with the length of its header as eight bytes, little endian. The header is JSON, which
takes many times its length in memory. The library itself allows 100 MB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
