"""Names of files as people and systems write them: how they are shown, when two mean the same, which no user chose."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from dnnlib.text import TextError, decode_text

_JUNK = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|__MACOSX", re.IGNORECASE)
_HIDDEN = re.compile(r"\..+|@eaDir|\$RECYCLE\.BIN|System Volume Information", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(name: str | os.PathLike) -> str:
    """The name as text that every terminal and JSON file takes: bytes that are no UTF-8 are read as Windows-1252.

    Line ends and other control characters are spelled as in Python, such as '\\n'.
    """
    text = os.fspath(name)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = _of_bytes(text)
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _of_bytes(name: str) -> str:
    try:
        return decode_text(name.encode("utf-8", "surrogateescape"))[0]
    except (UnicodeEncodeError, TextError):  # half a surrogate pair, or an encoding that cannot be told
        return name.encode("ascii", "backslashreplace").decode()


def same_name_key(name: str) -> str:
    """Equal for names that mean one file on different systems: composed or decomposed letters, slashes or backslashes."""
    return PurePosixPath(unicodedata.normalize("NFC", printable(name)).replace("\\", "/")).as_posix()


def is_hidden(path: str) -> bool:
    """Whether a relative path (with forward slashes) is or lies in something hidden, such as .ipynb_checkpoints or ._a.jpg."""
    return any(_HIDDEN.fullmatch(part) and part != ".." or is_junk(part) for part in PurePosixPath(path).parts)


def is_junk(name: str) -> bool:
    """Whether a file browser or an archiver made this file or folder beside the user's own; nobody misses it."""
    return _JUNK.fullmatch(name) is not None


def listing(names: Iterable[str], most: int = 3) -> str:
    """'a, b, c and 2 more'."""
    shown = [printable(name) for name in names]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")
