"""The caption files of Flickr8k (Hodosh et al. 2013) and Flickr30k (Young et al. 2014).

Both were published as token files with a line `NAME.jpg#0<TAB>caption` for each caption. Copies in
wide use have tables instead: captions.txt (columns `image,caption`) and results.csv (columns
`image_name| comment_number| comment`). The published files do not name the folder of the pictures,
so pictures may be found by their file names alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from datasets.conventions.base import Convention, Reading, Row, files_named
from datasets.conventions.records import (
    Bars,
    Dialect,
    PlainTabs,
    first_line,
    separated,
    table_rows,
    text_of,
)
from datasets.source_files import SourceFolder
from dnnlib.names import printable
from dnnlib.text import split_lines

_TOKEN = re.compile(r"(?P<name>.+)#\d+")
_TABLE_COLUMNS = ("image", "image_name")
_SPLIT_FILES = {
    "flickr_8k.trainimages.txt": "train",
    "flickr_8k.devimages.txt": "test",
    "flickr_8k.testimages.txt": "test",
}
_named_8k = files_named("Flickr8k.token.txt", "captions.txt")
_named_30k = files_named("results_20130124.token", "results.csv")
_split_files = files_named(*_SPLIT_FILES)


def _kind(source: SourceFolder, file: str) -> str | None:
    """'tokens', 'commas' or 'bars' by the first line; None if it has none of these forms."""
    line = first_line(source.files[file])
    name, tab, _ = line.partition("\t")
    if tab and _TOKEN.fullmatch(name):
        return "tokens"
    if line.replace(" ", "").lower() == "image,caption":
        return "commas"
    return "bars" if line.replace(" ", "").startswith("image_name|") else None


def _looks_8k(source: SourceFolder) -> list[str]:
    return [file for file in _named_8k(source) if _kind(source, file) in ("tokens", "commas")]


def _looks_30k(source: SourceFolder) -> list[str]:
    return [file for file in _named_30k(source) if _kind(source, file) in ("tokens", "bars")]


def _reads(reading: Reading) -> Iterator[Row]:
    """The rows of all files that have the first file's name, for example one file in each split.

    A caption that an earlier file has for the same picture is left out. Files whose folders have
    pictures of their own speak of different ones.
    """
    files = [file for file in reading.files if _base(file) == _base(reading.files[0])]
    for file in reading.files:
        remark = "" if file in files else " is left, it has another form"
        reading.tell(printable(file) + remark)
    splits = _splits(reading)
    # (folder if it has pictures, picture, caption) of the files before this one
    earlier: set[tuple[str, str, object]] = set()
    for file in files:
        current: set[tuple[str, str, object]] = set()
        folder = os.path.dirname(file)
        own = folder if reading.source.holds_pictures(folder) else ""
        for row in _rows(reading, file):
            texts = [text for text in row.texts if (own, row.name, text) not in earlier]
            current.update((own, row.name, text) for text in texts)
            split = splits.get(PurePosixPath(row.name).name)
            yield Row(row.name, texts, split, row.place, folder=folder)
        earlier |= current


def _base(file: str) -> str:
    return PurePosixPath(file).name.lower()


def _rows(reading: Reading, file: str) -> Iterator[Row]:
    kind = _kind(reading.source, file)
    if kind == "tokens":
        return _from_tokens(reading, file)
    return table_rows(reading, file, _TABLE_COLUMNS, Bars if kind == "bars" else Dialect)


def _from_tokens(reading: Reading, file: str) -> Iterator[Row]:
    for line, fields in separated(reading, file, text_of(reading, file), PlainTabs):
        match = _TOKEN.fullmatch(fields[0].strip())
        if match is None or len(fields) != 2:
            reading.wrong_row(file, line, "expected NAME.jpg#NUMBER, a tab and a caption")
        else:
            yield Row(match["name"], fields[1:], None, f"{printable(file)}, line {line}")


def _splits(reading: Reading) -> dict[str, str]:
    """The split of each picture, read from those of Flickr8k's lists that the source has."""
    splits: dict[str, str] = {}
    for file in _split_files(reading.source):
        side = _SPLIT_FILES[_base(file)]
        splits |= {
            line.strip(): side for line in split_lines(text_of(reading, file)) if line.strip()
        }
        reading.files.append(file)
        reading.tell(f"splits of {printable(file)}")
    return splits


FLICKR = (
    Convention("flickr8k", "Flickr8k's captions", _looks_8k, _reads, anywhere=True),
    Convention("flickr30k", "Flickr30k's captions", _looks_30k, _reads, anywhere=True),
)
