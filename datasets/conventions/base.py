"""What every convention of captions has: how it is recognised, and how it is read.

A convention is a way in which people keep captions with a folder of pictures. Each has one reader
in this package, which looks whether its files are there and yields a `Row` for what they say of a
picture. `datasets/folder.py` chooses the convention and turns its rows into pictures.
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
    """What a file says of one picture. Several rows may add captions to one picture.

    name: the picture's path, as the file spells it. folder: the one below the source that the path
    is relative to.
    texts: captions as they are read, not cleaned yet; what is no text among them is left out later.
    split: 'train', 'test', or None where the file does not say.
    where: file and line, for messages. reason: why there are no texts, where that is known.
    """

    name: str
    texts: Iterable[Any]
    split: str | None = None
    where: str = ""
    reason: str = "no captions"
    folder: str = ""


@dataclass
class Reading:
    """One reading of a source by one convention.

    files: those of `source.files` that hold the captions. caption_column: the user's choice, for
    tables. tables: the files among them that were read as tables with columns. details: words that
    a reader adds to the convention's title in the report.
    """

    source: SourceFolder
    files: list[str]
    report: Report
    caption_column: str | None = None
    tables: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def wrong_row(self, file: str, lines: int | str, reason: str) -> None:
        """Count a row that cannot be used, named by its file and line."""
        place = f"line {lines}" if isinstance(lines, int) else lines
        self.report.defect(WRONG_ROW, f"{printable(file)}, {place}", reason)

    def tell(self, detail: str) -> None:
        """Add to the title, once."""
        if detail not in self.details:
            self.details.append(detail)


@dataclass(frozen=True)
class Convention:
    """A way to keep captions.

    name: what `--captions-from` takes. title: how the report calls it.
    looks: the files of a source that hold such captions; none where the convention is not there.
    reads: the rows, in order.
    anywhere: names may also be relative to the source, and one without a folder may mean a file in
    any folder.
    once: a picture may have one row only; a second one is an error of the user's.
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
    """Looks for files of these names, in capitals or not, in every folder of a source."""
    wanted = {name.lower() for name in names}

    def looks(source: SourceFolder) -> list[str]:
        return [name for name in source.files if os.path.basename(name).lower() in wanted]

    return looks
