"""Read zip and tar files. Every zip and tar of this program is read by this module.

With a damaged archive, zipfile and tarfile may raise almost any exception. This module turns all of
them into a `PackedError` with the archive, the member and the reason.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dnnlib.errors import UserError, library_errors
from dnnlib.names import printable

MAX_UNPACKED_BYTES = 1 << 30  # of one member, as of a picture file; larger ones are refused
# A compressed file may unpack to 200 times its size, and to 16 MiB in any case. Pictures and
# captions stay below it: text shrinks to a tenth, and a bomb of deflate to a thousandth.
MAX_RATIO, ALWAYS_ALLOWED_BYTES = 200, 16 << 20
_MAX_HEADER_BYTES = 1 << 20  # of a long name or of the extended header of a tar
_STEP = 1 << 16  # bytes that are asked for at a time, so that no more is unpacked in advance
_UTF8_NAME, _ENCRYPTED = 0x800, 0x1  # flag bits of a member of a zip
_METHODS = {6: "implode", 9: "deflate64", 93: "zstandard", 95: "xz", 98: "ppmd"}
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class PackedError(UserError):
    """A zip or tar, or one member of it, cannot be read. member: '' if the archive cannot."""

    def __init__(self, archive: str, member: str, reason: str) -> None:
        super().__init__(archive, member, reason)
        self.archive, self.member, self.reason = archive, member, reason

    def __str__(self) -> str:
        member = f"{printable(self.member)} " if self.member else ""
        return f"{printable(self.archive)}: {member}cannot be read ({self.reason})"


class ZipFiles:
    """The members of a zip by name, with forward slashes. Can be pickled and used after a fork.

    Each process opens the file itself, so that forked and spawned workers never share a file
    offset. Raises `PackedError`.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._handle: tuple[int, zipfile.ZipFile] | None = None  # (process id, handle)
        self.members = {
            _zip_name(info): info
            for info in self._zip().infolist()
            if info.filename and not info.is_dir()  # names may be empty in a damaged zip
        }

    def read(self, name: str) -> bytes:
        """The bytes of one member. Raises `PackedError`."""
        info = self.members[name]
        archive = self._zip()
        with library_errors(lambda reason: PackedError(str(self.path), name, reason)):
            if info.flag_bits & _ENCRYPTED:
                raise ValueError("it is encrypted; pack it without a password")
            if info.compress_type not in _READABLE:
                method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
                raise ValueError(
                    f"it is compressed by {method}, which Python does not know; pack "
                    "it with deflate or none"
                )
            if info.compress_type == zipfile.ZIP_STORED:
                return archive.read(info)
            refuse_bomb(info.file_size, info.compress_size)
            with archive.open(info) as file:
                return b"".join(iter(functools.partial(file.read, _STEP), b""))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}

    def _zip(self) -> zipfile.ZipFile:
        if self._handle is None or self._handle[0] != os.getpid():
            with library_errors(
                lambda reason: PackedError(str(self.path), "", f"not a whole zip archive: {reason}")
            ):
                self._handle = (os.getpid(), zipfile.ZipFile(self.path))
        return self._handle[1]


def refuse_bomb(unpacked: int, packed: int) -> None:
    """Raise `ValueError` if compressed data would unpack to far more bytes than data sets need."""
    if unpacked > MAX_UNPACKED_BYTES:
        raise ValueError(f"it would unpack to {unpacked >> 20} MiB")
    if unpacked > max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * packed):
        raise ValueError(
            f"it would unpack to more than {MAX_RATIO} times its size, {unpacked >> 20} MiB; if "
            "you trust it, unpack it yourself and name the folder"
        )


def refuse_bombs(archive: zipfile.ZipFile) -> None:
    """`refuse_bomb` for every member of a zip that a library will read, such as .npz."""
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED:
            refuse_bomb(info.file_size, info.compress_size)


def _zip_name(info: zipfile.ZipInfo) -> str:
    name = info.filename
    # Many archivers write names in UTF-8 without the flag. zipfile then decodes them as cp437.
    if not name.isascii() and not info.flag_bits & _UTF8_NAME:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


@dataclass(frozen=True)
class TarMember:
    """A regular file of a tar. `read` returns its bytes, as long as no later member was reached.

    `read` raises `PackedError`.
    """

    name: str
    read: Callable[[], bytes]


_LONG_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Strict(tarfile.TarInfo):
    """A header of a tar that raises `ReadError` if it is damaged.

    tarfile takes a damaged header after the first member for the end of the archive.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise tarfile.ReadError(
                "the end mark is missing" if archive.offset else "the file is empty"
            ) from None
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        """tarfile calls it with every header, before it reads what belongs to the header."""
        if self.size < 0:  # tarfile of some versions reads such a tar without end
            raise tarfile.ReadError("a size is negative")
        if self.type in _LONG_HEADERS and self.size > _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header has {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def tar_members(path: str | os.PathLike, stream: Any = None) -> Iterator[TarMember]:
    """The regular files of a tar in one pass.

    stream: an object with `read(size)`, from which an uncompressed tar is read, and `path` is its
        name in messages; None opens the file `path`, which may be compressed.
    Raises `PackedError` at the first damaged place.
    """
    path, info = Path(path), None
    mode: Any = "r|*" if stream is None else "r|"
    with (
        library_errors(lambda reason: PackedError(str(path), info.name if info else "", reason)),
        tarfile.open(
            path if stream is None else None, mode, fileobj=stream, tarinfo=_Strict
        ) as archive,
    ):
        # Nothing in an uncompressed stream can grow, so only its members are bounded.
        most = sys.maxsize
        if stream is None:
            most = max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * path.stat().st_size)
        while (following := archive.next()) is not None:
            info = following
            # In an uncompressed tar this means that the file is cut short.
            _refuse_more(info.offset_data + info.size, most)
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep all headers
            if info.isfile():
                yield TarMember(info.name, functools.partial(_read_member, archive, info, path))
        assert archive.fileobj is not None
        unpacked = archive.offset
        while rest := archive.fileobj.read(1 << 20):
            unpacked += len(rest)
            _refuse_more(unpacked, most)
            if rest.strip(b"\0"):
                raise tarfile.ReadError(
                    "more follows after the end mark, as in tars that were joined"
                )


def _refuse_more(unpacked: int, most: int) -> None:
    """Raise `ValueError` if a tar unpacks to more than `most` bytes."""
    if unpacked > most:
        raise ValueError(f"the tar would unpack to more than {most >> 20} MiB here")


def _read_member(archive: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> bytes:
    with library_errors(lambda reason: PackedError(str(path), info.name, reason)):
        if info.issparse():
            raise ValueError("it is a sparse file, which holds no picture and no caption")
        if info.size > MAX_UNPACKED_BYTES:
            raise ValueError(f"it would unpack to {info.size >> 20} MiB")
        file = archive.extractfile(info)
        assert file is not None
        data = file.read()
        if len(data) != info.size:
            raise tarfile.ReadError("it is cut short")
        return data
