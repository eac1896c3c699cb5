"""The files of a user's folder: which are pictures, which are left out, which one a table means.

Hidden files are left out everywhere; folders that are links are followed only when asked.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from datasets.picture_files import is_picture_name
from datasets.report import Report
from dnnlib.errors import UserError, library_errors
from dnnlib.names import is_hidden, listing, printable, same_name_key

HIDDEN = "hidden file or folder"
LINKED_FOLDER = "linked folder (--follow-links reads it)"
READ_ALREADY = "linked folder that was read already"
UNREADABLE_FOLDER = "folder that cannot be read"
_MORE = {None: "", False: "; --follow-links reads it", True: ", which was read under another name"}


class MissingFile(UserError):
    """A table names a file that is not there; the message is the reason alone."""


class SourceFolder:
    """A folder of a user's files.

    files: path by relative path (with forward slashes) of all regular visible files, sorted.
    left_out: (kind, name) of the others. follow_links: None for False in a command that has no
    option --follow-links, which messages then do not name. Raises `UserError` where there is no
    such folder.
    """

    def __init__(
        self, path: str | os.PathLike, option: str = "--source", follow_links: bool | None = False
    ) -> None:
        self.path, self.follow_links = Path(path), follow_links
        if not self.path.is_dir():
            there = self.path.exists()
            what = "is a file, not a folder; unpack it first" if there else "no such folder"
            raise UserError(f"{option} {printable(self.path)}: {what}")
        self.left_out: list[tuple[str, str]] = []
        found = {path.relative_to(self.path).as_posix(): path for path in self._walk()}
        self.files = {name: found[name] for name in sorted(found, key=lambda name: name.split("/"))}

    def tell_left_out(self, report: Report) -> None:
        """Count the hidden files and folders; count and name what else was left out."""
        for kind, name in self.left_out:
            if kind == HIDDEN:
                report.note(kind)
            else:
                report.left_out(kind, name)

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
                        return f"lies in the linked folder {place}{_MORE[self.follow_links]}"
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
        """Linked folders come last, so that what is read hangs on no order of the system's."""
        folders, links, seen = [self.path], list[Path](), set[tuple[int, int]]()
        while folders or links:
            here = folders.pop() if folders else links.pop(0)
            try:
                identity = _identity(here)
                with os.scandir(here) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError:
                self._leave_out(UNREADABLE_FOLDER, here)
                continue
            if self.follow_links and identity in seen:
                self._leave_out(READ_ALREADY, here)
                continue
            seen.add(identity)
            for entry in entries:
                path = here / entry.name
                if is_hidden(entry.name):
                    self._leave_out(HIDDEN, path)
                elif entry.is_file():
                    yield path
                elif not entry.is_dir():
                    self._leave_out("broken link or special file", path)
                elif not entry.is_symlink():
                    folders.append(path)
                elif self.follow_links:
                    links.append(path)
                else:
                    kind = LINKED_FOLDER if self.follow_links is False else "linked folder"
                    self._leave_out(kind, path)

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
