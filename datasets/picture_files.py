"""The border to Pillow: every picture file is opened here, and whatever goes wrong has one form.

`load_rgb` makes 8-bit sRGB pixels of any picture, `load_stored` gives the pixels as they are
stored. Pillow and its plugins raise almost anything over a damaged file, so inside the border every
exception becomes a `PictureError`.
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

# Page descriptions, films, containers of measurements, and formats without an ending of their own.
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
    """A picture that cannot be used: `name` as the user knows it, and the `reason`."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{printable(self.name)} is not a readable picture ({self.reason})"


@dataclass(frozen=True)
class Loaded:
    """picture: mode RGB. grey: the file holds no colours. met: what was odd, for a report."""

    picture: Image.Image
    grey: bool
    met: tuple[str, ...]


@functools.cache
def picture_endings() -> dict[str, str]:
    """The format by ending ('.jpg' -> 'JPEG') of all that Pillow opens, but for `LEFT_OUT`."""
    Image.init()
    known = Image.OPEN.keys() - LEFT_OUT
    return {end: kind for end, kind in Image.registered_extensions().items() if kind in known}


@functools.cache
def _formats() -> tuple[str, ...]:
    return tuple(dict.fromkeys(picture_endings().values()))


def is_picture_name(name: str) -> bool:
    """Whether a file of this name is taken for a picture, by its ending."""
    return os.path.splitext(name)[1].lower() in picture_endings()


def load_rgb(
    source: str | os.PathLike | bytes, name: str | None = None, *, icc: Icc = "convert"
) -> Loaded:
    """A picture file, or its bytes, in 8-bit sRGB.

    Upright by EXIF, 16 bits scaled to 8, transparency over white, the first frame. icc: whether an
    embedded colour profile is converted to sRGB or ignored. Raises `PictureError`, also for pixel
    formats without a known range.
    """
    if name is None:
        name = "a picture" if isinstance(source, bytes) else printable(source)
    with library_errors(lambda reason: PictureError(name, reason)):
        data = source if isinstance(source, bytes) else _read(Path(source))
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
    """The decoded picture; where it fails, once more without what the file says about itself."""
    try:
        return _decoded(data), []
    except Exception as error:  # told by `load_rgb`, unless the pixels are sound
        failure = error
    bare = without_metadata(data)
    if bare != data:
        with contextlib.suppress(Exception):
            return _decoded(bare), [METADATA_UNREADABLE]
    raise failure


def _decoded(data: bytes) -> ImageFile.ImageFile:
    picture = _image(data)
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        # It turns the picture by EXIF, which `_orientation` reads more carefully.
        picture.load_end = lambda: None  # type: ignore[method-assign]
    picture.load()
    return picture


def _orientation(picture: Image.Image, met: list[str]) -> Image.Transpose | None:
    """How to turn the picture; None where it is upright, or where EXIF is too damaged to say."""
    try:
        if isinstance(picture, TiffImagePlugin.TiffImageFile):
            return _UPRIGHT.get(picture.tag_v2.get(_ORIENTATION, 1))
        if isinstance(data := picture.info.get("exif"), bytes):
            Image.Exif().load(data)  # the plugins have read it already, without a word on damage
        return _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # not worth losing a picture
        if METADATA_UNREADABLE not in met:
            met.append(METADATA_UNREADABLE)
        return None


def without_metadata(data: bytes) -> bytes:
    """JPEG, PNG and AVIF files with the parts alone that make the pixels; others as they are."""
    if data.startswith(_PNG):
        return _PNG + b"".join(_png_chunks(data))
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd8" + b"".join(_jpeg_segments(data))
    if data[4:8] == b"ftyp":  # the item of EXIF data becomes one of an unknown type
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
        # Of the application's segments only APP0 (JFIF), APP14 (Adobe: polarity of CMYK) and colour
        # profiles say how to decode.
        metadata = 0xE1 <= kind <= 0xEF or kind == 0xFE
        if not metadata or kind == 0xEE or segment[4:15] == b"ICC_PROFILE":
            yield segment
        place += 2 + length
    yield data[place:]
