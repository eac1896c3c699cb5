"""What a command may replace: what is its own by a mark of ours in it. Everything else is refused by name.

Every write that could take the place of something goes through `dnnlib.files.atomic_path`, which asks for a `Rule`. The
rules for a format lie beside the code that writes the format. A file of no bytes and a folder without files belong to
nobody: replacing them loses nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dnnlib.errors import UserError
from dnnlib.names import is_junk, listing, printable

Rule = Callable[[Path], "str | None"]
"""Says why the thing at a path is not ours, such as 'holds no pictures.json'; None where it is ours.

Called only where something is there.
"""


def refuse_foreign(target: str | os.PathLike, ours: Rule) -> None:
    """Raise `UserError` where something lies at `target` that is not ours by this rule."""
    target = Path(target)
    if not os.path.lexists(target) or _is_empty(target):
        return
    fault = ours(target)
    if fault:
        raise UserError(f"{printable(target)} {fault}, so it is left as it is; name another place, or move it away")


def _is_empty(path: Path) -> bool:
    return next(content(path), None) is None if path.is_dir() else path.is_file() and path.stat().st_size == 0


def content(folder: Path) -> Iterator[str]:
    """Relative paths of all files and links below a folder, with forward slashes; links are not followed.

    What file browsers scatter about, such as .DS_Store, is left out. Raises `OSError` for what cannot be listed.
    """
    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from ((Path(place) / name).relative_to(folder).as_posix() for name in (*files, *links) if not is_junk(name))


def never(path: Path) -> str:
    """Nothing may be there."""
    return "exists already"


def in_our_folder(path: Path) -> None:
    """For the files of a folder that was found to be ours when the command entered it, such as a run folder."""


def named_by_content(path: Path) -> None:
    """For files of a cache, whose name is the hash of what they hold: nobody else has a file of that name."""


def json_with(*keys: str) -> Rule:
    """A JSON object that has these keys."""
    def rule(path: Path) -> str | None:
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            value = None
        return None if isinstance(value, dict) and set(keys) <= value.keys() else f"is no JSON file with {listing(keys)}"
    return rule


def json_lines_with(*keys: str) -> Rule:
    """A file of JSON objects, a line each, that all have these keys; what is appended to belongs to it then."""
    def rule(path: Path) -> str | None:
        try:
            *lines, cut = path.read_bytes().split(b"\n")  # a crash may have cut the last line
            records = [json.loads(line) for line in lines if line.strip()]
            records = records if records or not cut else [None]
        except (OSError, ValueError, RecursionError):
            records = [None]
        fault = f"is not a file of JSON lines with {listing(keys)}"
        return None if all(isinstance(record, dict) and set(keys) <= record.keys() for record in records) else fault
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
    """A folder in which every file is ours. `listed(folder)` reads the mark and gives the relative paths of our files.

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
        return f"also holds {listing(sorted(foreign))}, which this program did not write" if foreign else None
    return rule
