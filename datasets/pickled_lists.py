"""Lists of strings out of pickle files, as AttnGAN keeps its file lists, without running anything that is in them.

The opcodes are walked one by one (`pickletools`); whatever is not a flat list of strings is refused by name. Files
whose line ends became carriage return + newline on their way through Windows or git are read as well.
"""

from __future__ import annotations

import os
import pickletools
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError, library_errors

_STRINGS = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_STORE = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_FETCH = frozenset({"GET", "BINGET", "LONG_BINGET"})
_IGNORED = frozenset({"PROTO", "FRAME"})
_MARK = object()


def read_string_list(path: str | os.PathLike) -> list[str]:
    """The strings of a pickled list, each without surrounding white space. Raises `UserError` naming the file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    problem: UserError | None = None
    # A file that went through a text conversion has "\r\n" wherever it had the byte "\n", inside binary data too.
    for candidate in dict.fromkeys((data, data.replace(b"\r\n", b"\n"))):
        try:
            # a walk over damaged opcodes ends in whatever the stack then lacks
            with library_errors(UserError):
                return [text.strip() for text in _walk(candidate)]
        except UserError as error:
            problem = problem or error
    raise UserError(f"{path} is not a pickled list of strings ({problem}); nothing else is read from a pickle, "
                    "since unpickling runs code")


def _walk(data: bytes) -> list[str]:
    stack: list = []
    memo: dict[Any, object] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in _IGNORED:
            continue
        if name in _STRINGS:
            stack.append(argument.decode("latin-1") if isinstance(argument, bytes) else argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_LIST", "LIST"):
            items = _above_mark(stack) if name == "LIST" else []
            stack.append(items)
        elif name in _STORE:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in _FETCH:
            stack.append(memo[argument])
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(_string(item))
        elif name == "APPENDS":
            items = _above_mark(stack)
            stack[-1].extend(items)
        elif name == "STOP":
            return _result(stack)
        else:
            raise ValueError(f"it uses the opcode {name}")
    raise ValueError("it is cut short")


def _above_mark(stack: list) -> list[str]:
    items = []
    while (item := stack.pop()) is not _MARK:
        items.append(_string(item))
    return items[::-1]


def _string(item: object) -> str:
    if not isinstance(item, str):
        raise ValueError("an element is not a string")
    return item


def _result(stack: list) -> list[str]:
    if len(stack) != 1 or not isinstance(stack[0], list):
        raise ValueError("it holds something else than one list")
    return stack[0]
