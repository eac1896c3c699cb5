"""The interface of a convention of captions: how to recognise it and how to read it.

A convention is a form in which captions lie with a folder of pictures. This package has one reader
for each. The reader finds the files with captions and yields a `Row` for each entry of a picture.
`datasets/folder.py` chooses the convention and turns its rows into pictures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from datasets.report import Report
from datasets.source_files import SourceFolder
from dnnlib.names import printable

WRONG_ROW = "wrong row"


@dataclass(frozen=True)
class Row:
    """One entry of a captions' file. Several rows may add captions to one picture.

    name: the picture's path, as the file spells it.
    texts: captions before cleaning; elements that are not texts are dropped later.
    split: 'train', 'test', or None if the file gives no split.
    place: file and line, for messages.
    reason: why there are no texts, if that is known.
    folder: the folder below the source that `name` is relative to.
    """

    name: str
    texts: Iterable[Any]
    split: str | None = None
    place: str = ""
    reason: str = "no captions"
    folder: str = ""


@dataclass
class Reading:
    """The state while one convention reads one source.

    files: the names in `source.files` of the files with captions.
    caption_column: the column of a table that the user chose.
    tables: the names in `files` that were read as tables with columns.
    details: remarks that follow the convention's title in the report.
    """

    source: SourceFolder
    files: list[str]
    report: Report
    caption_column: str | None = None
    tables: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def wrong_row(self, file: str, lines: int | str, reason: str) -> None:
        """Count a row that cannot be used. lines: a line number from 1, or a text for a range."""
        place = f"line {lines}" if isinstance(lines, int) else lines
        self.report.defect(WRONG_ROW, f"{printable(file)}, {place}", reason)

    def tell(self, detail: str) -> None:
        """Add a remark to `details`, unless it is there already."""
        if detail not in self.details:
            self.details.append(detail)


@dataclass(frozen=True)
class Convention:
    """A form in which captions lie with pictures.

    name: the value of `--captions-from`. title: the description in the report.
    looks: returns the files of a source that hold such captions; empty if there are none.
    reads: yields the rows, in order.
    anywhere: whether a picture's name may also be relative to the source, and a name without a
        folder may mean a file in any folder. A row whose folder has pictures means one of them.
    once: whether a second row for the same picture is an error.
    """

    name: str
    title: str
    looks: Callable[[SourceFolder], list[str]]
    reads: Callable[[Reading], Iterator[Row]]
    anywhere: bool = False
    once: bool = False

    def __str__(self) -> str:
        return self.name if self.title == self.name else f"{self.name} ({self.title})"


def files_named(*names: str) -> Callable[[SourceFolder], list[str]]:
    """A `looks` function that finds files of these names in every folder, in capitals or not."""
    wanted = {name.lower() for name in names}

    def looks(source: SourceFolder) -> list[str]:
        return [name for name in source.files if os.path.basename(name).lower() in wanted]

    return looks
