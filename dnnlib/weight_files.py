"""A check of safetensors files that comes before the library reads them.

A file begins with the length of its header as eight bytes, little endian. The header is JSON, which
takes many times its length in memory. The library itself allows 100 MB.
"""

from __future__ import annotations

import os

from dnnlib.errors import UserError
from dnnlib.names import printable

MAX_HEADER_BYTES = 8 << 20  # a hundred bytes for each of 80,000 tensors


def check_header(path: str | os.PathLike) -> None:
    """Raise `UserError` if the header of a safetensors file is larger than any network needs.

    Raises `OSError` for a file that cannot be read. All other damage is found by the library.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise UserError(
            f"{printable(path)} is not a safetensors file (its header would have {length} bytes, "
            f"and at most {MAX_HEADER_BYTES} are read)"
        )
