"""Reads lists of strings from pickle files, the form in which AttnGAN keeps its file lists.

Unpickling runs code only through the classes and functions that a pickle names. The reader here
finds none of them, so a pickle that names one is refused.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from dnnlib.errors import UserError, library_errors


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, strings and other plain values. Refuses every class and every function."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_string_list(path: str | os.PathLike) -> list[str]:
    """The strings of a pickled list, each without the white space around it.

    Files are also read whose line ends became carriage return + newline on their way through
    Windows or git. Raises `UserError` that names the file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    problem: UserError | None = None
    # A text conversion adds a carriage return to every newline byte, also inside binary data.
    for candidate in dict.fromkeys((data, data.replace(b"\r\n", b"\n"))):
        try:
            # A damaged pickle raises almost any exception.
            with library_errors(UserError):
                return [text.strip() for text in _strings(candidate)]
        except UserError as error:
            problem = problem or error
    raise UserError(
        f"{path} is not a pickled list of strings ({problem}); nothing else is read from a pickle, "
        "since unpickling runs code"
    )


def _strings(data: bytes) -> list[str]:
    for _, argument, _ in pickletools.genops(data):
        # The unpickler reserves memory for the numbers that a file names, before it reads on.
        if isinstance(argument, int) and argument > len(data):
            raise ValueError(f"it holds the number {argument}, beyond its length")
    value: Any = _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("it holds something else than one list of strings")
    return value
