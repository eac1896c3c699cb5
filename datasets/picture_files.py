"""Open picture files with Pillow. Every picture file of this program is opened by this module.

`load_rgb` returns 8-bit sRGB pixels of any picture, `load_stored` returns the pixels as they are
stored. With a damaged file, Pillow may raise almost any exception; this module turns all of them
into a `PictureError`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from datasets.picture_colours import GREY_MODES, colours_and_alpha, over_white, to_srgb
from dnnlib.errors import UserError, library_errors
from dnnlib.names import printable

Icc = Literal["convert", "ignore"]

# Formats of Pillow that are not read: page descriptions, films, measurement data, and IPTC, which
# has no file ending.
LEFT_OUT = frozenset({"PDF", "EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "IPTC"})
MAX_FILE_BYTES = 1 << 30
METADATA_UNREADABLE = "metadata such as EXIF that cannot be read, ignored"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_AVIF_HEAD_BYTES = 4096
_PNG = b"\x89PNG\r\n\x1a\n"


class PictureError(UserError):
    """A picture cannot be used. name: the name that the user knows it by. reason: the cause."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{printable(self.name)} is not a readable picture ({self.reason})"


@dataclass(frozen=True)
class Loaded:
    """A decoded picture, in mode RGB.

    grey: whether the file holds a greyscale picture. met: remarks on its profile and metadata.
    """

    picture: Image.Image
    grey: bool
    met: tuple[str, ...]


@functools.cache
def picture_endings() -> dict[str, str]:
    """Pillow's format by file ending ('.jpg' -> 'JPEG'), without the formats of `LEFT_OUT`."""
    Image.init()
    known = Image.OPEN.keys() - LEFT_OUT
    return {end: kind for end, kind in Image.registered_extensions().items() if kind in known}


@functools.cache
def _formats() -> tuple[str, ...]:
    return tuple(dict.fromkeys(picture_endings().values()))


def is_picture_name(name: str) -> bool:
    """Whether the name has the ending of a picture format that is read."""
    return os.path.splitext(name)[1].lower() in picture_endings()


def load_rgb(
    source: str | os.PathLike | bytes, name: str | None = None, *, icc: Icc = "convert"
) -> Loaded:
    """Decode a picture file, or its bytes, to 8-bit sRGB.

    The picture is turned upright by EXIF, 16 bits are scaled to 8, transparency is put over white,
    and of several frames the first is taken.
    name: the name in messages; None takes the path.
    icc: whether to convert an embedded colour profile to sRGB or to ignore it.
    Raises `PictureError`, also for pixel formats without a known range.
    """
    if name is None:
        name = "a picture" if isinstance(source, bytes) else printable(source)
    with library_errors(lambda reason: PictureError(name, reason)):
        data = source if isinstance(source, bytes) else _read(Path(source))
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"it has {len(data) >> 20} MiB")
        picture, met = _open(data)
        turn = _orientation(picture, met)
        colours, alpha = colours_and_alpha(picture, data)
        rgb = over_white(to_srgb(colours, picture.info.get("icc_profile"), icc, met), alpha)
        rgb = rgb if turn is None else rgb.transpose(turn)
        return Loaded(rgb, picture.mode in GREY_MODES, tuple(met))


def load_stored(data: bytes, name: str) -> tuple[str, np.ndarray]:
    """Mode and pixels [H, W, ...] as the file stores them. Raises `PictureError`."""
    with library_errors(lambda reason: PictureError(name, reason)), _image(data) as picture:
        return picture.mode, np.array(picture)


def stored_header(data: bytes, name: str) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height) that the header of a picture file gives. Raises `PictureError`."""
    with library_errors(lambda reason: PictureError(name, reason)), _image(data) as picture:
        return picture.mode, picture.size


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"the file has {path.stat().st_size >> 20} MiB")
    return path.read_bytes()


def _image(data: bytes) -> ImageFile.ImageFile:
    if not data:
        raise ValueError("the file is empty")
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except Image.UnidentifiedImageError:
        raise ValueError("cannot identify image file") from None


def _open(data: bytes) -> tuple[ImageFile.ImageFile, list[str]]:
    """The decoded picture, and remarks. If decoding fails, it is tried again without metadata."""
    try:
        return _decoded(data), []
    except Exception as error:  # raised below, unless the picture decodes without its metadata
        failure = error
    bare = without_metadata(data)
    if bare != data:
        with contextlib.suppress(Exception):
            return _decoded(bare), [METADATA_UNREADABLE]
    raise failure


def _decoded(data: bytes) -> ImageFile.ImageFile:
    picture = _image(data)
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        # `load_end` turns the picture by its EXIF data, which `_orientation` does with more checks.
        picture.load_end = lambda: None  # type: ignore[method-assign]
    picture.load()
    return picture


def _orientation(picture: Image.Image, met: list[str]) -> Image.Transpose | None:
    """How to turn the picture. None if it is upright, or if its EXIF data is damaged."""
    try:
        if isinstance(picture, TiffImagePlugin.TiffImageFile):
            return _UPRIGHT.get(picture.tag_v2.get(_ORIENTATION, 1))
        if isinstance(data := picture.info.get("exif"), bytes):
            Image.Exif().load(data)  # raises if the data is damaged; `getexif` may not
        return _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data is no reason to refuse a picture
        if METADATA_UNREADABLE not in met:
            met.append(METADATA_UNREADABLE)
        return None


def without_metadata(data: bytes) -> bytes:
    """A JPEG, PNG or AVIF file with only the parts that decoding needs; other files unchanged."""
    if data.startswith(_PNG):
        return _PNG + b"".join(_png_chunks(data))
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd8" + b"".join(_jpeg_segments(data))
    if data[4:8] == b"ftyp":  # AVIF: turn the item of EXIF data into an item of unknown type
        return data[:_AVIF_HEAD_BYTES].replace(b"Exif", b"none") + data[_AVIF_HEAD_BYTES:]
    return data


def _png_chunks(data: bytes) -> Iterator[bytes]:
    place = len(_PNG)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        chunk = data[place : place + 12 + length]
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            yield chunk
        place += 12 + length


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        kind, length = struct.unpack_from(">BH", data, place + 1)
        if kind == 0xDA:  # start of scan: pixels from here on
            break
        segment = data[place : place + 2 + length]
        # Of the application segments, only APP0 (JFIF), APP14 (Adobe: whether CMYK is inverted) and
        # colour profiles are needed to decode. Comments (0xFE) are not needed.
        metadata = 0xE1 <= kind <= 0xEF or kind == 0xFE
        if not metadata or kind == 0xEE or segment[4:15] == b"ICC_PROFILE":
            yield segment
        place += 2 + length
    yield data[place:]
