"""The data set at rest: an uncompressed zip of PNGs, or a plain folder, with one `dataset.json` that lists them.

Reading holds one file handle per process, so forked and spawned loader workers never share a file offset.
Writing is all or nothing. No torch here, and no pixels when reading: `datasets/text_image.py` decodes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from datasets.packed_files import PackedError, ZipFiles
from datasets.source_files import SourceFolder
from dnnlib.errors import UserError, reason_of
from dnnlib.files import atomic_path, remove_leftovers
from dnnlib.names import is_hidden, is_junk, listing
from dnnlib.ownership import content, refuse_foreign
from dnnlib.text import HALF, mend_text, parse_json

FORMAT = 1
INDEX = "dataset.json"
SPLITS = ("train", "test")
_REMEDY = "make it again with dataset_tool.py"
# (size, CRC-32) of files in plain folders, by path, inode, size and times.
_CHECKSUMS: dict[tuple[str, int, int, int, int], tuple[int, int]] = {}


@dataclass(frozen=True)
class Entry:
    """What `dataset.json` says of one picture. captions: empty in a data set without captions."""

    file: str
    id: str
    captions: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class Picture:
    """One picture on its way into an archive: image uint8 [H, W, 3] and what belongs to it."""

    image: np.ndarray
    id: str
    captions: tuple[str, ...]
    split: str


class Archive:
    """Bytes by name from a zip archive or a plain folder. May be pickled and may live through a fork.

    modes: the modes, in Pillow's terms, that its pictures may have.
    Raises `UserError` when the file is missing, is not a whole zip, or holds no valid `dataset.json`.
    """

    modes: tuple[str, ...] = ("RGB",)

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise UserError(
                f"{self.path} does not exist; make it with dataset_tool.py openmoji or folder"
            )
        self.zip = None if self.path.is_dir() else self._open_zip()  # None for a plain folder
        self._files = self._list_files()
        self._index = self._read_index()
        self.metadata: dict[str, Any] = self._parse_index()

    @property
    def names(self) -> list[str]:
        """All visible file names, sorted, with forward slashes and without `dataset.json`."""
        return sorted(name for name in self._files if name != INDEX)

    @property
    def resolution(self) -> tuple[int, int]:
        """(width, height) that every picture should have."""
        width, height = self.metadata["resolution"]
        return width, height

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises `UserError` naming it when it is missing or damaged."""
        if name not in self._files:
            raise UserError(
                f"{self.path}: {INDEX} lists {name}, which is not there; make the data set again"
            )
        try:
            return (self.path / name).read_bytes() if self.zip is None else self.zip.read(name)
        except OSError as error:
            raise self._unreadable(name, reason_of(error)) from None
        except PackedError as error:
            raise UserError(f"{error}; make the data set again") from None

    def _unreadable(self, name: str, reason: str) -> UserError:
        return UserError(f"{self.path}: {name} cannot be read ({reason}); make the data set again")

    def entries(self) -> list[Entry]:
        """The pictures that `dataset.json` lists, in its order.

        Either all of them have captions or none has. Raises `UserError` at the first malformed one.
        """
        entries = [self._entry(number, item) for number, item in enumerate(self.metadata["items"])]
        fault = mixture_fault({entry.file: bool(entry.captions) for entry in entries})
        if fault:
            raise UserError(f"{self.path}: {INDEX}: {fault}")
        return entries

    def content_hash(self) -> str:
        """sha256 over `dataset.json` and every file's name, size and CRC-32, not over the path.

        A zip stores the checksums. A plain folder is read whole for them, each file once a process
        while its inode, size and times stay; so it has the hash of a zip of the same files.
        """
        digest = hashlib.sha256(self._index)
        for name, (size, crc) in zip(self.names, self._checksums(), strict=True):
            digest.update(f"{name}\0{size}\0{crc}\n".encode())
        return digest.hexdigest()

    def _checksums(self) -> list[tuple[int, int]]:
        """(size, CRC-32) of every file, in the order of `names`."""
        if self.zip is not None:
            return [self._files[name] for name in self.names]
        with ThreadPoolExecutor(8) as pool:  # files on a network are slow one by one
            return list(pool.map(self._checksum, self.names))

    def _checksum(self, name: str) -> tuple[int, int]:
        path = os.path.abspath(self.path / name)
        try:
            info = os.stat(path)
        except OSError as error:
            raise self._unreadable(name, reason_of(error)) from None
        key = (path, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        if key not in _CHECKSUMS:
            data = self.read(name)
            _CHECKSUMS[key] = (len(data), zlib.crc32(data))
        return _CHECKSUMS[key]

    def _open_zip(self) -> ZipFiles:
        try:
            return ZipFiles(self.path)
        except PackedError as error:
            raise UserError(
                f"{self.path} is not a whole zip archive ({error.reason}): "
                "a cut copy or download? Make or copy it again"
            ) from None

    def _list_files(self) -> dict[str, tuple[int, int]]:
        """(size, CRC-32) by name, without hidden files; zeros in a plain folder, see `_checksums`."""
        if self.zip is not None:
            return {
                name: (info.file_size, info.CRC)
                for name, info in self.zip.members.items()
                if not is_hidden(name)
            }
        return dict.fromkeys(SourceFolder(self.path, "--data", follow_links=True).files, (0, 0))

    def _read_index(self) -> bytes:
        if INDEX not in self._files:
            unpack, source = ("", self.path) if self.zip is None else ("unpack it and ", "FOLDER")
            raise UserError(
                f"{self.path} holds no {INDEX}; {unpack}prepare the pictures with "
                f"dataset_tool.py folder --source {source} --dest NEW.zip "
                "--resolution WxH"
            )
        return self.read(INDEX)

    def _parse_index(self) -> dict[str, Any]:
        try:
            index = parse_json(self._index, f"{self.path}: {INDEX}")
        except UserError as error:
            raise UserError(f"{error}; {_REMEDY}") from None
        return self._checked(index)

    def _checked(self, metadata: Any) -> dict[str, Any]:
        """The parsed index. Raises `UserError` where it is none of ours."""
        where = f"{self.path}: {INDEX}"
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
            raise UserError(
                f'{where} is not of format {FORMAT} ("format": {FORMAT} is missing); {_REMEDY}'
            )
        size = metadata.get("resolution")
        if not (
            isinstance(size, list)
            and len(size) == 2
            and all(isinstance(n, int) and n > 0 for n in size)
        ):
            raise UserError(f"{where}: resolution must be [width, height], got {size!r}; {_REMEDY}")
        if not isinstance(metadata.get("items"), list):
            raise UserError(f"{where}: items must be a list; {_REMEDY}")
        return metadata

    def _entry(self, number: int, item: Any) -> Entry:
        fault = entry_fault(item)
        if fault:
            raise UserError(
                f"{self.path}: {INDEX}, items[{number}]: {fault}; "
                f"dataset_tool.py verify --source {self.path} lists all faults"
            )
        return Entry(item["file"], item["id"], tuple(item["captions"]), item["split"])


def entry_fault(item: Any) -> str | None:
    """What is wrong with one element of `items`, or None."""
    if not isinstance(item, dict):
        return f"expected an object, got {item!r}"
    for field in ("file", "id"):
        if (
            not isinstance(item.get(field), str)
            or not item[field]
            or HALF in mend_text(item[field])[1]
        ):
            return f"{field} must be a text that is not empty, got {item.get(field)!r}"
    captions = item.get("captions")
    if not isinstance(captions, list):
        return f"{item['file']}: captions must be a list, got {captions!r}"
    for caption in captions:
        if not isinstance(caption, str) or not caption.strip():
            return f"{item['file']}: caption {caption!r} is not a text, or is empty"
        if HALF in mend_text(caption)[1]:
            return f"{item['file']}: caption {caption!r} holds half a surrogate pair"
    if item.get("split") not in SPLITS:
        return (
            f"{item['file']}: split must be one of {', '.join(SPLITS)}, got {item.get('split')!r}"
        )
    return None


def mixture_fault(captioned: Mapping[str, bool]) -> str | None:
    """What is wrong where only some of the pictures have captions, or None. captioned: by file."""
    without = [file for file, has in captioned.items() if not has]
    if not without or len(without) == len(captioned):
        return None
    return (
        f"{len(without)} of {len(captioned)} pictures have no captions ({listing(without)}); "
        "give captions to all of them, or to none"
    )


def write_archive(
    dest: str | os.PathLike,
    pictures: Iterable[Picture],
    resolution: tuple[int, int],
    info: Mapping[str, Any],
    faults: Callable[[Path], Iterable[str]] = lambda path: (),
) -> list[Entry]:
    """Write a zip (`dest` ends in .zip) or a plain folder, in the order given; whole or not at all.

    `resolution` is (width, height). `info` goes into `dataset.json` beside the list of pictures; it
    is read after the last picture, so an importer may fill in its report until then. The same input
    gives the same bytes. `faults` checks what was written before it takes its name; the first fault
    is raised. Raises `UserError` when there is no picture, and for a `dest` that is there and no
    data set of ours.
    """
    dest = Path(dest)
    as_folder = check_ending(dest)
    remove_leftovers(dest.parent, dest.name)
    with atomic_path(dest, folder=as_folder, ours=archive_fault) as temporary:
        with open_store(temporary, as_folder) as store:
            entries = [
                _store_picture(store, number, picture, resolution)
                for number, picture in enumerate(pictures)
            ]
            if not entries:
                raise UserError(f"{dest}: no usable picture, so nothing was written")
            items = [asdict(entry) for entry in entries]
            index = {"format": FORMAT, **info, "resolution": list(resolution), "items": items}
            store.add(INDEX, json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n")
        for fault in faults(temporary):
            raise UserError(
                f"{dest}: what was written fails its own check, so it is thrown away: {fault}"
            )
    return entries


def check_dest(dest: Path) -> None:
    """Raise `UserError` where an archive cannot be written: another kind of file, or something that
    is not ours.
    """
    check_ending(dest)
    refuse_foreign(dest, archive_fault)


def check_ending(dest: Path) -> bool:
    """Whether `dest` means a folder and not a zip. Raises `UserError` where the other kind lies."""
    as_folder = dest.suffix.lower() != ".zip"
    if dest.exists() and as_folder != dest.is_dir():
        problem = (
            "file without the ending .zip; name a .zip file or a folder"
            if as_folder
            else "folder; name a .zip file"
        )
        raise UserError(f"--dest {dest} is a {problem}")
    return as_folder


def archive_fault(path: Path) -> str | None:
    """The rule of ownership (`dnnlib.ownership`) for data sets: an index of our format lists all
    that is there.
    """
    try:
        archive = Archive(path)
    except UserError:
        return f"is not a data set of this program (it has no readable {INDEX} of format {FORMAT})"
    names = [item.get("file") for item in archive.metadata["items"] if isinstance(item, dict)]
    listed = {name for name in names if isinstance(name, str)}
    found = (
        content(path)
        if archive.zip is None
        else [name for name in archive.zip.members if not is_junk(PurePosixPath(name).name)]
    )
    foreign = sorted(set(found) - listed - {INDEX})
    return f"also holds {listing(foreign)}, which {INDEX} does not list" if foreign else None


def _store_picture(store: Any, number: int, picture: Picture, resolution: tuple[int, int]) -> Entry:
    width, height = resolution
    assert picture.image.shape == (height, width, 3) and picture.image.dtype == np.uint8, (
        picture.image.shape
    )
    name = picture_name(number)
    store.add(name, png_bytes(picture.image))
    return Entry(name, picture.id, tuple(picture.captions), picture.split)


def picture_name(number: int) -> str:
    """The name of picture `number` in archives that we write: a folder holds 1,000."""
    return f"{number // 1000:05d}/img{number:08d}.png"


def png_bytes(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as a PNG file."""
    buffer = io.BytesIO()
    # Level 0: decoding is then little more than a copy, and the bytes do not depend on the zlib at hand.
    Image.fromarray(image).save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()


def open_store(path: Path, as_folder: bool) -> _FolderStore | _ZipStore:
    """A context with `add(name, bytes)`: a folder, or an uncompressed zip, whole on leaving."""
    return _FolderStore(path) if as_folder else _ZipStore(path)


class _ZipStore(zipfile.ZipFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path, "w", zipfile.ZIP_STORED)

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
        elif (
            self.fp is not None
        ):  # a write cut in the middle cannot be closed properly, and the file is thrown away anyway
            self.fp.close()
            self.fp = None

    def add(self, name: str, data: bytes) -> None:
        member = zipfile.ZipInfo(name)  # dated 1980, so that equal input gives equal bytes
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
