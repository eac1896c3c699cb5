"""Conventions without a captions' file: captions from a template and folder names, or none."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from datasets.columns import split_named
from datasets.conventions.base import Convention, Reading, Row
from datasets.source_files import SourceFolder
from dnnlib.errors import UserError
from dnnlib.names import printable

_NUMBER = re.compile(r"(?:\d+|n\d{8})[._\s-]+(?=\S)")  # as in 001.Cardinal and n02085620-Chihuahua
_HOLE = "{}"
TEMPLATE = "--caption-template"


def check_template(template: str) -> None:
    """Raise `UserError` if the template has no words, or braces other than {}."""
    if not template.replace(_HOLE, "").strip() or set("{}") & set(template.replace(_HOLE, "")):
        raise UserError(
            f"--caption-template {template!r}: expected words, with {{}} where the "
            "class belongs, such as 'a photo of a {}'"
        )


def caption_of(template: str, folder: str) -> str:
    """The template with {} replaced by the class that the folder's name gives.

    '001.Black_footed_Albatross' gives 'Black footed Albatross': the leading number is dropped and
    underscores become spaces.
    """
    name = printable(folder)
    number = _NUMBER.match(name)
    words = name[number.end() if number else 0 :].replace("_", " ").split()
    return template.replace(_HOLE, " ".join(words) or name)


def class_folder(name: str) -> str | None:
    """The name of the folder that the picture `name` lies in.

    None if the picture lies directly in the source or in a split's folder such as train/.
    """
    folders = PurePosixPath(name).parts[:-1]
    if not folders or (len(folders) == 1 and split_named(folders[0])):
        return None
    return folders[-1]


def from_template(template: str) -> Convention:
    """A convention that makes one caption for each picture, from the name of its folder.

    Raises `UserError` as `check_template` does.
    """
    check_template(template)
    return Convention(
        TEMPLATE, repr(template), _no_files, functools.partial(_from_folders, template)
    )


def _from_folders(template: str, reading: Reading) -> Iterator[Row]:
    made: set[str] = set()
    for name in reading.source.pictures():
        folder = class_folder(name)
        if folder is None and _HOLE in template:
            yield Row(name, (), reason="it lies in no folder that could name its class")
            continue
        text = caption_of(template, folder or "")
        made.add(text)
        yield Row(name, (text,))
    if made:
        reading.tell(f"{len(made)} different, such as {min(made)!r}")


def _no_files(source: SourceFolder) -> list[str]:
    return []


def _without(reading: Reading) -> Iterator[Row]:
    for name in reading.source.pictures():
        yield Row(name, ())


NO_CAPTIONS = Convention("--no-captions", "none are imported", _no_files, _without)
