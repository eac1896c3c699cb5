"""List the files of a user's folder, and find the file that a table names.

Hidden files are left out. Symbolic links to folders, and to files outside the folder, are read only
with --follow-links: otherwise a folder of a stranger could name any file of this machine.
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
LINKED_FILE = "linked file of another folder (--follow-links reads it)"
LINKED_FOLDER = "linked folder (--follow-links reads it)"
READ_ALREADY = "linked folder that was read already"
UNREADABLE_FOLDER = "folder that cannot be read"
# End of the message on a file in a linked folder, by `SourceFolder.follow_links`.
_MORE = {None: "", False: "; --follow-links reads it", True: ", which was read under another name"}


class MissingFile(UserError):
    """A table names a file that does not exist. The message is only the reason."""


class SourceFolder:
    """A folder of a user's files.

    option: the flag that names the folder, for messages.
    follow_links: whether linked folders are read, and links to files outside the folder. None means
        False in a command without the option --follow-links, so that messages do not name it.
    files: the path of each visible regular file by its relative path with forward slashes, sorted.
    left_out: (kind, relative path) of the other files and folders.
    Raises `UserError` if the folder does not exist or is a file.
    """

    def __init__(
        self, path: str | os.PathLike, option: str = "--source", follow_links: bool | None = False
    ) -> None:
        self.path, self.follow_links = Path(path), follow_links
        if not self.path.is_dir():
            is_file = self.path.exists()
            reason = "is a file, not a folder; unpack it first" if is_file else "no such folder"
            raise UserError(f"{option} {printable(self.path)}: {reason}")
        self.left_out: list[tuple[str, str]] = []
        self._read = set[tuple[int, int]]()  # the folders, by `_identity`
        paths = {path.relative_to(self.path).as_posix(): path for path in self._walk()}
        self.files = {name: paths[name] for name in sorted(paths, key=lambda name: name.split("/"))}

    def tell_left_out(self, report: Report) -> None:
        """Add `left_out` to the report. Hidden files and folders are only counted, not named."""
        for kind, name in self.left_out:
            if kind == HIDDEN:
                report.note(kind)
            else:
                report.left_out(kind, name)

    def pictures(self) -> dict[str, Path]:
        """The files whose endings are those of pictures, in the form of `files`."""
        return dict(self._pictures)

    def holds_pictures(self, folder: str) -> bool:
        """Whether a folder below the source, or the source itself for '', has pictures in it."""
        return folder in self._picture_folders

    def has_read(self, place: Path) -> bool:
        """Whether a path, which need not exist, is a folder that was read or lies in one."""
        real = Path(os.path.realpath(place))
        folders = (folder for folder in (real, *real.parents) if folder.is_dir())
        return any(_identity(folder) in self._read for folder in folders)

    def find(self, name: object) -> str:
        """The key of `files` for the file that a table calls `name`.

        If there is no exact match, names are compared by `same_name_key`. Raises `MissingFile`.
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
        with library_errors(MissingFile):  # the name may be too long or hold a NUL
            if (self.path / name).is_file():
                if (self.path / name).is_symlink():
                    return f"is a link to a file of another folder{_MORE[self.follow_links]}"
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
    def _picture_folders(self) -> set[str]:
        folders = {PurePosixPath(folder) for folder in {os.path.dirname(n) for n in self._pictures}}
        above = {str(place) for folder in folders for place in (folder, *folder.parents)}
        return {"" if place == "." else place for place in above}

    @functools.cached_property
    def _by_key(self) -> dict[str, list[str]]:
        return _grouped(self.files, same_name_key)

    @functools.cached_property
    def _by_fold(self) -> dict[str, list[str]]:
        return _grouped(self.files, str.casefold)

    def _walk(self) -> Iterator[Path]:
        """The visible regular files of the folder and its subfolders; fills `left_out`.

        Linked folders are read after all others. A folder that is reached twice therefore keeps the
        name without a link, whatever order the file system lists it in.
        """
        folders, links = [self.path], list[Path]()
        while folders or links:
            folder = folders.pop() if folders else links.pop(0)
            try:
                identity = _identity(folder)
                with os.scandir(folder) as listing_of_folder:
                    entries = sorted(listing_of_folder, key=lambda entry: entry.name)
            except OSError:
                self._leave_out(UNREADABLE_FOLDER, folder)
                continue
            if self.follow_links and identity in self._read:
                self._leave_out(READ_ALREADY, folder)
                continue
            self._read.add(identity)
            for entry in entries:
                path = folder / entry.name
                if is_hidden(entry.name):
                    self._leave_out(HIDDEN, path)
                elif entry.is_file():
                    if self.follow_links or not entry.is_symlink() or self._holds(path):
                        yield path
                    else:
                        kind = LINKED_FILE if self.follow_links is False else "linked file"
                        self._leave_out(kind, path)
                elif not entry.is_dir():
                    self._leave_out("broken link or special file", path)
                elif not entry.is_symlink():
                    folders.append(path)
                elif self.follow_links:
                    links.append(path)
                else:
                    kind = LINKED_FOLDER if self.follow_links is False else "linked folder"
                    self._leave_out(kind, path)

    def _holds(self, link: Path) -> bool:
        """Whether a link leads to a file in this folder."""
        return os.path.commonpath([self._real, os.path.realpath(link)]) == self._real

    @functools.cached_property
    def _real(self) -> str:
        return os.path.realpath(self.path)

    def _leave_out(self, kind: str, path: Path) -> None:
        self.left_out.append((kind, printable(path.relative_to(self.path).as_posix())))


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def _identity(path: Path) -> tuple[int, int]:
    """(device, inode), equal for two paths to the same folder."""
    info = path.stat()
    return info.st_dev, info.st_ino


def is_below(name: str) -> bool:
    """Whether a path is relative and has no '..'; it may have slashes or backslashes."""
    path = PureWindowsPath(name)  # splits at slashes and at backslashes
    return not path.root and ".." not in path.parts
