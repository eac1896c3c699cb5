"""Read and write a data set: a zip or a folder of PNGs, with a `dataset.json` that lists them.

The zip is uncompressed. Each process opens its file handle itself, so that forked and spawned
loader workers never share a file offset. A data set is written completely or not at all.
This module does not import torch, and `Archive` returns bytes: `datasets/text_image.py` decodes.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from datasets.archive_store import open_store, picture_name, png_bytes
from datasets.packed_files import PackedError, ZipFiles
from datasets.source_files import SourceFolder
from dnnlib.errors import UserError, reason_of
from dnnlib.files import atomic_path, remove_leftovers
from dnnlib.names import is_hidden, is_junk, listing
from dnnlib.ownership import content, refuse_foreign
from dnnlib.text import HALF, MAX_CAPTION, mend_text, parse_json

FORMAT = 1
INDEX = "dataset.json"
NATIVE = "native"  # `resolution` of a data set whose pictures keep their sizes
SPLITS = ("train", "test")
_OTHER_ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_REMEDY = "make it again with dataset_tool.py"
# (size, CRC-32) of files in plain folders, by path, inode, size and times.
_CHECKSUMS: dict[tuple[str, int, int, int, int], tuple[int, int]] = {}


@dataclass(frozen=True)
class Entry:
    """One picture as `dataset.json` lists it.

    file: name inside the archive. id: unique text. captions: empty in a data set without captions.
    split: 'train' or 'test'. size: (width, height) in pixels.
    """

    file: str
    id: str
    captions: tuple[str, ...]
    split: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Picture:
    """One picture to be written into an archive. image: uint8 [H, W, 3]; the rest as in `Entry`."""

    image: np.ndarray
    id: str
    captions: tuple[str, ...]
    split: str


class Archive:
    """Reads files by name from a zip or a folder. Can be pickled and used after a fork.

    modes: the Pillow modes that the pictures may have.
    Raises `UserError` if the file is missing, is not a complete zip or has no valid `dataset.json`.
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
        """Sorted names of all visible files, with forward slashes and without `dataset.json`."""
        return sorted(name for name in self._files if name != INDEX)

    @property
    def native(self) -> bool:
        """Whether the pictures keep the sizes of their sources (`--transform none`)."""
        return bool(self.metadata["resolution"] == NATIVE)

    @property
    def resolution(self) -> tuple[int, int]:
        """(width, height) in pixels, the same for every picture.

        Raises `UserError` for a data set of native sizes.
        """
        if self.native:
            raise UserError(
                f"{self.path}: the pictures have different sizes; train on patches of them "
                "(train.py --patch PX), or make a data set of one size (dataset_tool.py folder "
                "--transform center-crop)"
            )
        width, height = self.metadata["resolution"]
        return width, height

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises `UserError` with its name if it is missing or damaged."""
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
        """The pictures in the order of `dataset.json`.

        Raises `UserError` at the first malformed entry, and if only some pictures have captions.
        """
        entries = [self._entry(number, item) for number, item in enumerate(self.metadata["items"])]
        fault = mixture_fault({entry.file: bool(entry.captions) for entry in entries})
        if fault:
            raise UserError(f"{self.path}: {INDEX}: {fault}")
        return entries

    def content_hash(self) -> str:
        """sha256 over `dataset.json` and the name, size and CRC-32 of every file.

        The path of the data set does not enter the hash, and a folder has the same hash as a zip
        of the same files. A zip stores the CRC-32 values. The files of a folder are read to compute
        them: once per process for each file, as long as its inode, size and times stay the same.
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
                f"{self.path} is {error.reason}; a cut copy or download? Make or copy it again"
            ) from None

    def _list_files(self) -> dict[str, tuple[int, int]]:
        """(size, CRC-32) by name, without hidden files; (0, 0) in a folder, see `_checksums`."""
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
        """The parsed index. Raises `UserError` if it does not have this program's format."""
        place = f"{self.path}: {INDEX}"
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
            raise UserError(
                f'{place} is not of format {FORMAT} ("format": {FORMAT} is missing); {_REMEDY}'
            )
        size = metadata.get("resolution")
        if size != NATIVE and not _is_size(size):
            raise UserError(
                f"{place}: resolution must be [width, height] or {NATIVE!r}, got {size!r}; "
                f"{_REMEDY}"
            )
        if not isinstance(metadata.get("items"), list):
            raise UserError(f"{place}: items must be a list; {_REMEDY}")
        return metadata

    def _entry(self, number: int, item: Any) -> Entry:
        fault = entry_fault(item, native=self.native)
        if fault:
            raise UserError(
                f"{self.path}: {INDEX}, items[{number}]: {fault}; "
                f"dataset_tool.py verify --source {self.path} lists all faults"
            )
        width, height = item["size"] if self.native else self.resolution
        captions = tuple(item["captions"])
        return Entry(item["file"], item["id"], captions, item["split"], (width, height))


def _is_size(value: Any) -> bool:
    """Whether a value of `dataset.json` is [width, height] in pixels."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(n, int) and n > 0 for n in value)
    )


def entry_fault(item: Any, *, native: bool = False) -> str | None:
    """The fault of one element of `items` in `dataset.json`; None if it has no fault.

    native: whether the pictures keep their sizes; then each element has its picture's size.
    """
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
        if len(caption) > MAX_CAPTION:
            return f"{item['file']}: a caption has {len(caption)} characters, over {MAX_CAPTION}"
        if HALF in mend_text(caption)[1]:
            return f"{item['file']}: caption {caption!r} holds half a surrogate pair"
    if item.get("split") not in SPLITS:
        return (
            f"{item['file']}: split must be one of {', '.join(SPLITS)}, got {item.get('split')!r}"
        )
    if native and not _is_size(item.get("size")):
        return f"{item['file']}: size must be [width, height], got {item.get('size')!r}"
    return None


def mixture_fault(captioned: Mapping[str, bool]) -> str | None:
    """The fault of a data set in which only some pictures have captions; None in all others.

    captioned: for each file name, whether the picture has captions.
    """
    without = [file for file, has_captions in captioned.items() if not has_captions]
    if not without or len(without) == len(captioned):
        return None
    return (
        f"{len(without)} of {len(captioned)} pictures have no captions ({listing(without)}); "
        "give captions to all of them, or to none"
    )


def write_archive(
    dest: str | os.PathLike,
    pictures: Iterable[Picture],
    resolution: tuple[int, int] | None,
    info: Mapping[str, Any],
    faults: Callable[[Path], Iterable[str]] = lambda path: (),
) -> list[Entry]:
    """Write a zip (if `dest` ends in .zip) or a folder, completely or not at all.

    pictures: written in the given order.
    resolution: (width, height) in pixels; None for pictures of native sizes.
    info: further entries of `dataset.json`. They are read after the last picture, so that an
        importer can fill in its report until then.
    faults: checks the written data set under its temporary name; the first fault is raised.

    The same input gives the same bytes. Raises `UserError` if there is no picture, and if `dest`
    exists and is not a data set of this program.
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
            if resolution is not None:
                for item in items:
                    del item["size"]
            size = NATIVE if resolution is None else list(resolution)
            index = {"format": FORMAT, **info, "resolution": size, "items": items}
            store.add(INDEX, json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n")
        for fault in faults(temporary):
            raise UserError(
                f"{dest}: what was written fails its own check, so it is thrown away: {fault}"
            )
    return entries


def check_dest(dest: Path) -> None:
    """Raise `UserError` if `dest` is of the wrong kind or exists and is not a data set of ours."""
    check_ending(dest)
    refuse_foreign(dest, archive_fault)


def check_ending(dest: Path) -> bool:
    """Whether `dest` names a folder (True) or a zip (False).

    Raises `UserError` if a folder exists under a name with .zip, or a file under one without, and
    for the ending of another archive: train.py would take a folder of that name for one.
    """
    as_folder = dest.suffix.lower() != ".zip"
    if dest.suffix.lower() in _OTHER_ARCHIVES:
        raise UserError(
            f"--dest {dest}: {dest.suffix} archives are not written; name a .zip file or a folder "
            "without this ending"
        )
    if dest.exists() and as_folder != dest.is_dir():
        problem = (
            "file without the ending .zip; name a .zip file or a folder"
            if as_folder
            else "folder; name a .zip file"
        )
        raise UserError(f"--dest {dest} is a {problem}")
    return as_folder


def archive_fault(path: Path) -> str | None:
    """The rule by which `dnnlib.ownership` allows to replace a data set; None if it is ours.

    A data set is ours if its `dataset.json` has our format and lists every file that is there.
    """
    try:
        archive = Archive(path)
    except UserError:
        return f"is not a data set of this program (it has no readable {INDEX} of format {FORMAT})"
    names = [item.get("file") for item in archive.metadata["items"] if isinstance(item, dict)]
    listed = {name for name in names if isinstance(name, str)}
    files = set(content(path) if archive.zip is None else archive.zip.members)
    foreign = sorted(
        name for name in files - listed - {INDEX} if not is_junk(PurePosixPath(name).name)
    )
    return f"also holds {listing(foreign)}, which {INDEX} does not list" if foreign else None


def _store_picture(
    store: Any, number: int, picture: Picture, resolution: tuple[int, int] | None
) -> Entry:
    height, width, channels = picture.image.shape
    assert resolution in (None, (width, height)) and channels == 3, picture.image.shape
    assert picture.image.dtype == np.uint8, picture.image.dtype
    name = picture_name(number)
    store.add(name, png_bytes(picture.image))
    return Entry(name, picture.id, tuple(picture.captions), picture.split, (width, height))
