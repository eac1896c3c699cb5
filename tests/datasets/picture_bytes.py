"""Make picture files that Pillow reads but cannot write, unusual metadata, and tars."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib

import numpy as np
from PIL import Image, ImageCms


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values, depth, colour_type, transparent=None, extra=b""):
    """A PNG of the samples [H, W] or [H, W, C]. transparent: content of the chunk tRNS."""
    values = np.asarray(values)
    rows = b""
    for row in values:
        if depth < 8:
            samples = np.pad(row, (0, -len(row) * depth % 8 // depth)).reshape(-1, 8 // depth)
            packed = sum(
                samples[:, i].astype(int) << 8 - depth * (i + 1) for i in range(8 // depth)
            ).astype(np.uint8)
        else:
            packed = row.astype(">u2" if depth == 16 else np.uint8)
        rows += b"\0" + packed.tobytes()
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour_type, 0, 0, 0)
    trns = b"" if transparent is None else png_chunk(b"tRNS", transparent)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + trns
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def grey_tiff(values, photometric, depth, extra=()):
    """A little-endian TIFF with one sample a pixel. extra: further (tag, type, value)."""
    data, (height, width) = values.tobytes(), values.shape
    tags = sorted(
        [
            (256, 4, width),
            (257, 4, height),
            (258, 3, depth),
            (259, 3, 1),
            (262, 3, photometric),
            (273, 4, -1),
            (277, 3, 1),
            (278, 4, height),
            (279, 4, len(data)),
            *extra,
        ]
    )
    start = 8 + 2 + 12 * len(tags) + 4
    fields = b"".join(
        struct.pack("<HHII", tag, kind, 1, start if value == -1 else value)
        for tag, kind, value in tags
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + fields + struct.pack("<I", 0) + data


def bitmap_with_alpha(picture: Image.Image, kind: str) -> bytes:
    """A BMP, or a DIB, which has no header of a file, of a picture in mode RGBA."""
    data, size = picture.tobytes("raw", "BGRA", 0, -1), 124
    header = struct.pack("<IiiHHII16x", size, *picture.size, 1, 32, 3, len(data))
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)  # the bits of the channels
    start = 14 + size
    file = struct.pack("<2sI4xI", b"BM", start + len(data), start) if kind == "BMP" else b""
    return file + header.ljust(size, b"\0") + data


def with_tag(profile: bytes, first: bytes, second: bytes) -> bytes:
    """A colour profile with two tags exchanged, such as the primaries of red and green."""
    places = {
        profile[132 + 12 * i : 136 + 12 * i]: 136 + 12 * i
        for i in range(int.from_bytes(profile[128:132], "big"))
    }
    changed = bytearray(profile)
    one, two = places[first], places[second]
    changed[one : one + 8], changed[two : two + 8] = profile[two : two + 8], profile[one : one + 8]
    return bytes(changed)


def grey_profile(gamma: float) -> bytes:
    """The least colour profile (ICC, version 2) of grey pictures with a power as tone curve."""
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50 in 1 / 65536
    tags = {
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0),
    }
    start, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    kind = struct.pack(">I", 0x02100000) + b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    length = struct.pack(">I4x", start + len(body))
    return (length + kind + white).ljust(128, b"\0") + table + body


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = with_tag(SRGB, b"rXYZ", b"gXYZ")  # red means green
# Orientation 6, and a text instead of a fraction for XResolution, as some phones write it.
BAD_FRACTION = (
    b"Exif\0\0II*\0"
    + struct.pack("<IH", 8, 2)
    + struct.pack("<HHIHH", 274, 3, 1, 6, 0)
    + struct.pack("<HHI4s", 282, 2, 3, b"72\0\0")
    + struct.pack("<I", 0)
)
# A PNG with a header of 60,000 x 60,000 pixels and no pixel data.
BOMB = (
    b"\x89PNG\r\n\x1a\n"
    + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    + png_chunk(b"IDAT", b"")
)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    """The bytes of the file that Pillow writes of a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tarred(path, *members, mode="w"):
    """Write a tar of (name, bytes) to `path` and return the path."""
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
