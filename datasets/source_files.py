"""The files of a user's folder: which are pictures, which are left out, which one a table means.

Hidden files are left out everywhere; folders that are links are followed only when asked.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from datasets.picture_files import is_picture_name
from dnnlib.errors import UserError, library_errors
from dnnlib.names import is_hidden, listing, printable, same_name_key

HIDDEN = "hidden file or folder"
LINKED_FOLDER = "linked folder (--follow-links reads it)"
UNREADABLE_FOLDER = "folder that cannot be read"


class MissingFile(UserError):
    """A table names a file that is not there; the message is the reason alone."""


class SourceFolder:
    """A folder of a user's files.

    files: path by relative path (with forward slashes) of all regular visible files, sorted.
    left_out: (kind, name) of the others. Raises `UserError` where there is no such folder.
    """

    def __init__(self, path: str | os.PathLike, option: str = "--source",
                 follow_links: bool = False) -> None:
        self.path, self.follow_links = Path(path), follow_links
        if not self.path.is_dir():
            there = self.path.exists()
            what = "is a file, not a folder; unpack it first" if there else "no such folder"
            raise UserError(f"{option} {printable(self.path)}: {what}")
        self.left_out: list[tuple[str, str]] = []
        found = {path.relative_to(self.path).as_posix(): path for path in self._walk()}
        self.files = {name: found[name] for name in sorted(found, key=lambda name: name.split("/"))}

    def pictures(self) -> dict[str, Path]:
        """Those of `files` that are pictures by their endings."""
        return dict(self._pictures)

    def find(self, name: object) -> str:
        """The name in `files` that a table means by `name`: exactly, else as `same_name_key` does.

        Raises `MissingFile`.
        """
        if not isinstance(name, str) or not name.strip():
            raise MissingFile("no file name")
        if not is_below(name):
            raise MissingFile("must be a path below the source folder")
        exact = PurePosixPath(name).as_posix()
        if exact in self.files:
            return exact
        same = self._by_key.get(same_name_key(name), [])
        if len(same) == 1:
            return same[0]
        if same:
            raise MissingFile(f"several files have that name, up to its spelling: {listing(same)}")
        raise MissingFile(self._why_missing(exact))

    def _why_missing(self, name: str) -> str:
        with library_errors(MissingFile):  # names too long, with NULs ...
            if (self.path / name).is_file():
                for place in reversed(PurePosixPath(name).parents):
                    if (self.path / place).is_symlink() and place != PurePosixPath("."):
                        return f"lies in the linked folder {place}; --follow-links reads it"
                return "is hidden or lies in a hidden folder"
        alike = self._by_fold.get(name.casefold(), [])
        return "no such file" + (f"; there is {listing(alike)}, in other letters" if alike else "")

    @functools.cached_property
    def _pictures(self) -> dict[str, Path]:
        return {name: path for name, path in self.files.items() if is_picture_name(name)}

    @functools.cached_property
    def _by_key(self) -> dict[str, list[str]]:
        return _grouped(self.files, same_name_key)

    @functools.cached_property
    def _by_fold(self) -> dict[str, list[str]]:
        return _grouped(self.files, str.casefold)

    def _walk(self) -> Iterator[Path]:
        folders, seen = [self.path], {_identity(self.path)}
        while folders:
            here = folders.pop()
            try:
                with os.scandir(here) as listed:
                    entries = list(listed)
            except OSError:
                self._leave_out(UNREADABLE_FOLDER, here)
                continue
            for entry in entries:
                path = here / entry.name
                if is_hidden(entry.name):
                    self._leave_out(HIDDEN, path)
                elif entry.is_file():
                    yield path
                elif not entry.is_dir():
                    self._leave_out("broken link or special file", path)
                elif entry.is_symlink() and not self.follow_links:
                    self._leave_out(LINKED_FOLDER, path)
                elif entry.is_symlink() and _identity(path) in seen:
                    self._leave_out("linked folder that was read already", path)
                else:
                    seen.add(_identity(path))
                    folders.append(path)

    def _leave_out(self, kind: str, path: Path) -> None:
        self.left_out.append((kind, printable(path.relative_to(self.path).as_posix())))


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def _identity(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


def is_below(name: str) -> bool:
    """Whether a relative path stays in its folder, with slashes or backslashes."""
    path = PureWindowsPath(name)  # takes both for separators
    return not path.root and ".." not in path.parts
