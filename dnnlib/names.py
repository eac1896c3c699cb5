"""Names of files as people and systems write them: how they are shown, which files no user made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

_JUNK = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|__MACOSX", re.IGNORECASE)


def printable(name: str | os.PathLike) -> str:
    """The name as text that every terminal and JSON file takes: bytes that are no UTF-8 are read as Windows-1252."""
    text = os.fspath(name)
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, which stands for no byte
        return text.encode("utf-8", "replace").decode()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def is_junk(name: str) -> bool:
    """Whether a file browser or an archiver made this file or folder beside the user's own; nobody misses it."""
    return _JUNK.fullmatch(name) is not None


def listing(names: Iterable[str], most: int = 3) -> str:
    """'a, b, c and 2 more'."""
    shown = [printable(name) for name in names]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")
