"""What a command may replace: what is ours by a mark in it. Everything else is refused by name.

Every write that could take the place of something goes through `dnnlib.files.atomic_path`, which
asks for a `Rule`. The rules for a format lie beside the code that writes the format. A file of no
bytes and a folder without files belong to nobody: replacing them loses nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dnnlib.errors import UserError, reason_of
from dnnlib.names import is_junk, listing, printable

Rule = Callable[[Path], "str | None"]
"""Says why what lies at a path is not ours, such as 'holds no pictures.json'; None where it is.

Called only where something is there.
"""


def refuse_foreign(target: str | os.PathLike, ours: Rule) -> None:
    """Raise `UserError` where something lies at `target` that is not ours by this rule, or that
    cannot be read.
    """
    target = Path(target)
    try:
        fault = ours(target) if os.path.lexists(target) and not _is_empty(target) else None
    except OSError as error:
        fault = f"cannot be read ({reason_of(error)})"
    if fault:
        raise UserError(
            f"{printable(target)} {fault}, so it is left as it is; name another place, "
            "or move it away"
        )


def _is_empty(path: Path) -> bool:
    if path.is_dir():
        return next(content(path), None) is None
    return path.is_file() and path.stat().st_size == 0


def content(folder: Path) -> Iterator[str]:
    """Relative paths of all files and links below a folder; links are not followed.

    What file browsers scatter about, such as .DS_Store, is left out. Raises `OSError` for what
    cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from (
            (Path(place) / name).relative_to(folder).as_posix()
            for name in (*files, *links)
            if not is_junk(name)
        )


def never(path: Path) -> str:
    """Nothing may be there."""
    return "exists already"


def in_our_folder(path: Path) -> None:
    """For the files of a folder, such as a run's, that was found to be ours at the start."""


def named_by_content(path: Path) -> None:
    """For files of a cache, named by the hash of what they hold, as nobody else's files are."""


def json_with(*keys: str) -> Rule:
    """A JSON object that has these keys."""

    def rule(path: Path) -> str | None:
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            value = None
        ours = isinstance(value, dict) and set(keys) <= value.keys()
        return None if ours else f"is no JSON file with {listing(keys)}"

    return rule


def json_lines_with(*keys: str) -> Rule:
    """A file of JSON objects, a line each, that all have these keys; for files that grow."""

    def rule(path: Path) -> str | None:
        try:
            *lines, cut = path.read_bytes().split(b"\n")  # a crash may have cut the last line
            records = [json.loads(line) for line in lines if line.strip()]
            records = records if records or not cut else [None]
        except (OSError, ValueError, RecursionError):
            records = [None]
        ours = all(isinstance(one, dict) and set(keys) <= one.keys() for one in records)
        return None if ours else f"is not a file of JSON lines with {listing(keys)}"

    return rule


def starting_with(mark: str) -> Rule:
    """A text file that begins so."""

    def rule(path: Path) -> str | None:
        fault = f"does not begin with {mark!r}"
        if not path.is_file():
            return fault
        with open(path, "rb") as file:
            return None if file.read(len(mark.encode())) == mark.encode() else fault

    return rule


def whole_folder(listed: Callable[[Path], Iterable[str]]) -> Rule:
    """A folder in which every file is ours; `listed(folder)` reads their paths from the mark.

    It raises `UserError` that says what is wrong with the mark, such as 'no pictures.json of ours'.
    """

    def rule(path: Path) -> str | None:
        if not path.is_dir():
            return "is a file, not a folder of ours"
        found = set(content(path))
        try:
            foreign = found - set(listed(path))
        except UserError as error:
            return f"holds {listing(sorted(found))} and {error}"
        if not foreign:
            return None
        return f"also holds {listing(sorted(foreign))}, which this program did not write"

    return rule
