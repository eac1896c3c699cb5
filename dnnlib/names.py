"""Names of files: how they are shown, when two of them mean the same, which no user chose."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from dnnlib.text import TextError, decode_text

_JUNK = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|__MACOSX", re.IGNORECASE)
_HIDDEN = re.compile(r"\..+|@eaDir|\$RECYCLE\.BIN|System Volume Information", re.IGNORECASE)
_PLAIN = re.compile(r"\w[\w .-]*(?:/\w[\w .-]*)*", re.ASCII)  # already as `same_name_key` gives it
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(name: str | os.PathLike) -> str:
    """The name as text that every terminal and JSON file takes.

    Bytes that are no UTF-8 are read as Windows-1252. Line ends and other control characters are
    spelled as in Python, such as '\\n'.
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
    except (UnicodeEncodeError, TextError):  # half a surrogate pair, or another encoding
        return name.encode("ascii", "backslashreplace").decode()


def same_name_key(name: str) -> str:
    """Equal for names that mean one file on different systems.

    Letters may be composed or decomposed, and separators slashes or backslashes.
    """
    if _PLAIN.fullmatch(name):
        return name
    composed = unicodedata.normalize("NFC", printable(name))
    return PurePosixPath(composed.replace("\\", "/")).as_posix()


def is_hidden(path: str) -> bool:
    """Whether a relative path is or lies in something hidden, as ._a.jpg or .ipynb_checkpoints."""
    parts = (part for part in PurePosixPath(path).parts if part != "..")
    return any(_HIDDEN.fullmatch(part) or is_junk(part) for part in parts)


def is_junk(name: str) -> bool:
    """Whether a file browser or an archiver made a file of this name; nobody misses it."""
    return _JUNK.fullmatch(name) is not None


def listing(names: Iterable[str], most: int = 3) -> str:
    """'a, b, c and 2 more'."""
    shown = [printable(name) for name in names]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")
