"""A caption file beside each picture: NAME.txt and NAME.caption (a caption a line), NAME.json."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from datasets.conventions.base import Convention, Reading, Row
from datasets.report import Report
from datasets.source_files import SourceFolder
from dnnlib.errors import UserError, library_errors
from dnnlib.names import same_name_key
from dnnlib.text import TextError, parse_json, read_text, split_lines

JSON_KEYS = ("captions", "caption", "text", "prompt")


def stem_key(name: str) -> str:
    """Equal for a picture and the files beside it that belong to it."""
    return same_name_key(os.path.splitext(name)[0])


def _looks(ending: str, source: SourceFolder) -> list[str]:
    files = [name for name in source.files if name.lower().endswith(ending)]
    stems = {stem_key(name) for name in source.pictures()} if files else set()
    return [name for name in files if stem_key(name) in stems]


def _reads(
    ending: str, texts_of: Callable[[Path, Report], list[Any]], reading: Reading
) -> Iterator[Row]:
    files: dict[str, list[str]] = {}
    for file in reading.files:
        files.setdefault(stem_key(file), []).append(file)
    for name in reading.source.pictures():
        beside = files.get(stem_key(name), [])
        stem = os.path.splitext(name)[0]
        # of names that differ in composed or decomposed Unicode alone, the picture's own
        file = next(
            (one for one in beside if os.path.splitext(one)[0] == stem),
            beside[0] if beside else None,
        )
        if file is None:
            yield Row(name, (), reason=f"no caption file {PurePosixPath(stem).name}{ending}")
            continue
        shown = PurePosixPath(file).name
        try:
            texts = texts_of(reading.source.files[file], reading.report)
        except UserError as error:
            yield Row(name, (), reason=f"caption file {shown} cannot be read: {error}")
            continue
        yield Row(name, texts, reason=f"caption file {shown} is empty")


def _from_lines(path: Path, report: Report) -> list[str]:
    text, mended = read_text(path)
    report.mended(mended)
    return split_lines(text)


def _from_json(path: Path, report: Report) -> list[Any]:
    mended: list[str] = []
    with library_errors(TextError):
        data = path.read_bytes()
    record = parse_json(data, "it", mended)
    report.mended(mended)
    key = (
        next((key for key in JSON_KEYS if key in record), None)
        if isinstance(record, dict)
        else None
    )
    if key is None:
        raise TextError(f"none of the keys {', '.join(JSON_KEYS)} is there")
    return record[key] if isinstance(record[key], list) else [record[key]]


def _beside(ending: str, texts_of: Callable[[Path, Report], list[Any]]) -> Convention:
    return Convention(
        f"NAME{ending}",
        "beside each picture",
        functools.partial(_looks, ending),
        functools.partial(_reads, ending, texts_of),
    )


BESIDE = (
    _beside(".txt", _from_lines),
    _beside(".caption", _from_lines),
    _beside(".json", _from_json),
)
