"""File names: how to print them, how to compare them, and which ones to skip."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dnnlib.text import TextError, decode_text

_JUNK = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|__MACOSX", re.IGNORECASE)
_HIDDEN = re.compile(r"\..+|@eaDir|\$RECYCLE\.BIN|System Volume Information", re.IGNORECASE)
_PLAIN = re.compile(r"\w[\w .-]*(?:/\w[\w .-]*)*", re.ASCII)  # `same_name_key` keeps such names
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(name: str | os.PathLike) -> str:
    """Convert a file name to text that can be printed and written to JSON.

    A name that is not UTF-8 is read as Windows-1252. Line ends and other control characters become
    Python escapes, such as '\\n'.
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
    except (UnicodeEncodeError, TextError):  # half a surrogate pair, or an unknown encoding
        return name.encode("ascii", "backslashreplace").decode()


def same_name_key(name: str) -> str:
    """A key that is equal for the names of one file on different systems.

    Accented letters may be composed or decomposed; separators may be slashes or backslashes.
    """
    if _PLAIN.fullmatch(name):
        return name
    composed = unicodedata.normalize("NFC", printable(name))
    return PurePosixPath(composed.replace("\\", "/")).as_posix()


def is_hidden(path: str) -> bool:
    """Whether a relative path has a hidden part, such as ._a.jpg or .ipynb_checkpoints/a.jpg."""
    parts = (part for part in PurePosixPath(path).parts if part != "..")
    return any(_HIDDEN.fullmatch(part) or is_junk(part) for part in parts)


def is_junk(name: str) -> bool:
    """Whether a file of this name is a by-product of a file browser or an archiver."""
    return _JUNK.fullmatch(name) is not None


def numbered(folder: Path, prefix: str, suffix: str = "") -> dict[int, Path]:
    """{number: path} of the entries of a folder with these names, the lowest number first.

    A name is prefix, number and suffix; the number has six digits, and more only where it is that
    large. An entry with another name is a copy that the user made; it is left out.
    """
    name = re.compile(rf"{re.escape(prefix)}(\d{{6}}|[1-9]\d{{6,}}){re.escape(suffix)}", re.ASCII)
    matches = ((name.fullmatch(path.name), path) for path in folder.glob(f"{prefix}*{suffix}"))
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def listing(names: Iterable[str], most: int = 3) -> str:
    """List names as 'a, b, c and 2 more', of which at most `most` are printed."""
    shown = [printable(name) for name in names]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")
