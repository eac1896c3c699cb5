"""Write the files of a data set: names, PNGs, and the zip or folder that holds them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture_name(number: int) -> str:
    """The name of picture `number` in archives that we write: 1,000 pictures in each folder."""
    return f"{number // 1000:05d}/img{number:08d}.png"


def png_bytes(image: np.ndarray) -> bytes:
    """The bytes of a PNG file. image: uint8 [H, W, 3]."""
    buffer = io.BytesIO()
    # Level 0 stores without compression: decoding is little more than a copy, and the bytes do not
    # depend on the version of zlib.
    Image.fromarray(image).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()


def open_store(path: Path, as_folder: bool) -> _FolderStore | _ZipStore:
    """A context with `add(name, bytes)` that writes a folder or an uncompressed zip.

    The folder or zip is complete when the context is left.
    """
    return _FolderStore(path) if as_folder else _ZipStore(path)


class _ZipStore(zipfile.ZipFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path, "w", zipfile.ZIP_STORED)

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
        elif self.fp is not None:
            # `close` fails after an interrupted write. The caller deletes this file, so it is
            # enough to close the handle.
            self.fp.close()
            self.fp = None

    def add(self, name: str, data: bytes) -> None:
        member = zipfile.ZipInfo(name)  # with the date 1980, so that equal input gives equal bytes
        member.external_attr = 0o644 << 16
        member.create_system = 3
        self.writestr(member, data)


class _FolderStore:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> _FolderStore:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, name: str, data: bytes) -> None:
        (self.path / name).parent.mkdir(exist_ok=True)
        (self.path / name).write_bytes(data)
