"""Decoding of text files in unknown encodings, with repair of common damage.

UTF-8 with or without a byte order mark is decoded as it is. UTF-16 and UTF-32 are recognised by
their byte order mark or by the positions of their NUL bytes. Single bytes that are not UTF-8 are
read as Windows-1252, so a file that mixes both encodings is decoded correctly. Every function that
repairs text also returns what it repaired, in the words of the constants below.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError, library_errors, reason_of

WIDE = "text in UTF-16 or UTF-32"
WINDOWS = "bytes that are no UTF-8, read as Windows-1252"
LOST_SPACES = "pairs of U+FFFD, read as spaces"
LOST = "characters lost before (U+FFFD)"
HALF = "half a surrogate pair, left out"
CONTROL = "control characters, left out"
MAX_CAPTION = 20_000  # characters; ten pages, far more than any text encoder reads

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Where NUL bytes stand in English text: their position modulo 4.
_NULS = {"utf-32-le": (1, 2, 3), "utf-32-be": (0, 1, 2), "utf-16-le": (1, 3), "utf-16-be": (0, 2)}
# `surrogateescape` decodes each byte that is not UTF-8 to the character U+DC00 + byte. Three such
# characters may encode half of a surrogate pair.
_HIGH, _LOW = "\udced[\udca0-\udcaf][\udc80-\udcbf]", "\udced[\udcb0-\udcbf][\udc80-\udcbf]"
_ESCAPED_HALVES = re.compile(f"{_HIGH}{_LOW}|{_HIGH}|{_LOW}")
_ESCAPED = re.compile("[\udc80-\udcff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_C1 = re.compile("[\x80-\x9f]")
_BLANK_CONTROL = re.compile("[\x0b\x0c\x1c-\x1f\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x9f\ufdd0-\ufdef\ufeff\ufffe\uffff]")
_SUSPECT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffd-\uffff]"
)


class TextError(UserError):
    """The bytes are not text, or their encoding cannot be determined."""


def decode_text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Decode bytes to text -> (text, what was repaired, as constants of this module).

    Raises `TextError` for bytes that are not text.
    """
    encoding, start = _encoding(data)
    if encoding != "utf-8":
        width = 4 if "32" in encoding else 2
        body = data[start : start + (len(data) - start) // width * width]
        with library_errors(TextError):
            text, mended = mend_text(body.decode(encoding, "surrogatepass"))
        return text, (WIDE, *mended)
    text = data[start:].decode("utf-8", "surrogateescape")
    foreign: tuple[str, ...] = ()
    if _ESCAPED.search(text):
        text = _ESCAPED_HALVES.sub(_joined, text)
        text, count = _ESCAPED.subn(_windows, text)
        if count >= 4 and count > 0.4 * len("".join(text.split())):
            raise TextError(
                "neither UTF-8 nor UTF-16, and too few Latin letters for Windows-1252; "
                "save it as UTF-8"
            )
        foreign = (WINDOWS,) if count else ()
    controls = len(_CONTROL.findall(text))
    if controls >= 8 and controls > 0.2 * len(text):
        raise TextError("this is no text")
    text, mended = mend_text(text)
    return text, (*foreign, *mended)


def _encoding(data: bytes) -> tuple[str, int]:
    """The name of the encoding of `data` and the length of its byte order mark in bytes."""
    for mark, name in _MARKS:
        if data.startswith(mark) and not ("32" in name and len(data) % 4):
            return name, len(mark)
    nuls = [data[rest : 1 << 16 : 4].count(0) for rest in range(4)]
    length = min(len(data), 1 << 16) / 4
    for name, places in _NULS.items():
        fewest = min(nuls[rest] for rest in places)
        others = [nuls[rest] for rest in range(4) if rest not in places]
        if fewest > 0.3 * length and max(others) < 0.25 * fewest:
            return name, 0
    return "utf-8", 0


def _joined(match: re.Match) -> str:
    """Join two halves of a surrogate pair that were encoded in UTF-8 to one character.

    A single half becomes U+D800, which `mend_text` leaves out.
    """
    halves = match[0].encode("utf-8", "surrogateescape").decode("utf-8", "surrogatepass")
    if len(halves) == 1:
        return "\ud800"
    return halves.encode("utf-16", "surrogatepass").decode("utf-16")


def _windows(match: re.Match) -> str:
    """The Windows-1252 character of a byte that `surrogateescape` has escaped."""
    byte = ord(match[0]) & 0xFF
    return _CP1252.get(byte, chr(byte))


_CP1252 = {
    byte: bytes([byte]).decode("cp1252")
    for byte in range(0x80, 0x100)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}


def mend_text(text: str) -> tuple[str, tuple[str, ...]]:
    """Remove characters that no tokenizer accepts -> (text, what was repaired).

    The input is decoded text, such as a string of a JSON file. Halves of surrogate pairs are joined
    or left out. Control characters become the Windows-1252 character of the same code, a space, or
    nothing. Pairs of U+FFFD become spaces: AttnGAN's captions of CUB have them in place of spaces.
    """
    if not _SUSPECT.search(text):
        return text, ()
    mended = []

    def replace(pattern: re.Pattern, by: Any, what: str) -> None:
        nonlocal text
        text, count = pattern.subn(by, text)
        if count and what and what not in mended:
            mended.append(what)

    replace(_PAIR, lambda two: two[0].encode("utf-16", "surrogatepass").decode("utf-16"), "")
    replace(_SURROGATE, "", HALF)
    replace(re.compile("\ufffd\ufffd"), " ", LOST_SPACES)
    replace(_C1, lambda match: _CP1252.get(ord(match[0]), match[0]), WINDOWS)
    replace(_BLANK_CONTROL, " ", CONTROL)
    replace(_CONTROL, "", CONTROL)
    if "\ufffd" in text:
        mended.append(LOST)
    return text, tuple(mended)


def split_lines(text: str) -> list[str]:
    """Split at line feeds and carriage returns only.

    `str.splitlines` also splits at other characters, such as U+0085.
    """
    return re.split("\r\n|\r|\n", text)


def read_text(path: str | os.PathLike) -> tuple[str, tuple[str, ...]]:
    """`decode_text` of a file. Raises `TextError` with the reason but without the file's name."""
    with library_errors(TextError):
        return decode_text(Path(path).read_bytes())


def read_named_text(
    path: str | os.PathLike, subject: str, remedy: str = ""
) -> tuple[str, tuple[str, ...]]:
    """`read_text`. Raises `UserError` that begins with `subject` and ends with the remedy."""
    try:
        return read_text(path)
    except TextError as error:
        ending = f"; {remedy}" if remedy else ""
        raise UserError(f"{subject} cannot be read ({error}){ending}") from None


def parse_json(data: bytes | str, subject: str, mended: list[str] | None = None) -> Any:
    """Decode and parse JSON; append what was repaired to the list `mended`.

    Raises `UserError` that begins with `subject`. Strings of the result may hold halves of
    surrogate pairs, which JSON writes as ASCII escapes: give them to `mend_text`.
    """
    try:
        text, repairs = decode_text(data) if isinstance(data, bytes) else (data, ())
        value = json.loads(text)
    except TextError as error:
        raise UserError(f"{subject} is not valid JSON ({error})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{subject} is not valid JSON ({reason_of(error)})") from None
    if mended is not None:
        mended += repairs
    return value
