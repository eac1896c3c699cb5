"""Rules that keep commands from replacing files that this program did not write.

"Ours" is what this program wrote: a mark in the file or folder shows it. A command may replace what
is ours and refuses anything else by name. Every write that could replace something goes through
`dnnlib.files.atomic_path`, which takes a `Rule`. The rule for a format is in the module that writes
the format. An empty file or a folder without files may always be replaced: nothing is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dnnlib.errors import UserError, reason_of
from dnnlib.names import is_junk, listing, printable

Rule = Callable[[Path], "str | None"]
"""Takes an existing path and returns None if it is ours, else the reason why it is not.

The reason continues a sentence that begins with the path, such as 'holds no pictures.json'.
"""


def refuse_foreign(target: str | os.PathLike, ours: Rule) -> None:
    """Raise `UserError` if `target` exists and is not ours by this rule, or cannot be read."""
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

    Files that file browsers make, such as .DS_Store, are left out. Raises `OSError` if a folder
    cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (
            (Path(parent) / name).relative_to(folder).as_posix()
            for name in (*files, *links)
            if not is_junk(name)
        )


def never(path: Path) -> str:
    """Rule that allows no replacement: the target must not exist."""
    return "exists already"


def in_our_folder(path: Path) -> None:
    """Rule that allows every replacement, for files in a folder that is known to be ours.

    Such a folder is a run folder, which the command checked when it started.
    """


def named_by_content(path: Path) -> None:
    """Rule that allows every replacement, for cache files that are named by a hash.

    The hash identifies the content, so no other program uses the same name.
    """


def json_with(*keys: str) -> Rule:
    """Rule for a JSON file that holds an object with these keys."""

    def rule(path: Path) -> str | None:
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            value = None
        ours = isinstance(value, dict) and set(keys) <= value.keys()
        return None if ours else f"is no JSON file with {listing(keys)}"

    return rule


def json_lines_with(*keys: str) -> Rule:
    """Rule for a file with one JSON object a line, all of which have these keys.

    A last line that a crash has cut is allowed.
    """

    def rule(path: Path) -> str | None:
        try:
            *lines, cut = path.read_bytes().split(b"\n")  # a crash may have cut the last line
            records = [json.loads(line) for line in lines if line.strip()]
            records = records if records or not cut else [None]
        except (OSError, ValueError, RecursionError):
            records = [None]
        ours = all(isinstance(record, dict) and set(keys) <= record.keys() for record in records)
        return None if ours else f"is not a file of JSON lines with {listing(keys)}"

    return rule


def starting_with(mark: str) -> Rule:
    """Rule for a text file that begins with `mark`."""

    def rule(path: Path) -> str | None:
        fault = f"does not begin with {mark!r}"
        if not path.is_file():
            return fault
        with open(path, "rb") as file:
            return None if file.read(len(mark.encode())) == mark.encode() else fault

    return rule


def whole_folder(listed: Callable[[Path], Iterable[str]]) -> Rule:
    """Rule for a folder in which every file is ours.

    listed: returns the relative paths of our files in a folder, as its index file lists them. It
    raises `UserError` if the index is missing or damaged, such as 'no pictures.json of ours'.
    """

    def rule(path: Path) -> str | None:
        if not path.is_dir():
            return "is a file, not a folder of ours"
        files = set(content(path))
        try:
            foreign = files - set(listed(path))
        except UserError as error:
            return f"holds {listing(sorted(files))} and {error}"
        if not foreign:
            return None
        return f"also holds {listing(sorted(foreign))}, which this program did not write"

    return rule
