"""A caption file beside each picture: NAME.txt, NAME.caption (one caption a line) or NAME.json."""

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
    """A key that a picture NAME.jpg shares with its caption files NAME.txt, NAME.json and so on."""
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
        candidates = files.get(stem_key(name), [])
        stem = os.path.splitext(name)[0]
        # Candidates differ only in composed or decomposed Unicode. Prefer the exact name.
        exact = [candidate for candidate in candidates if os.path.splitext(candidate)[0] == stem]
        file = next(iter(exact or candidates), None)
        if file is None:
            yield Row(name, (), reason=f"no caption file {PurePosixPath(stem).name}{ending}")
            continue
        shown = PurePosixPath(file).name
        try:
            texts = texts_of(reading.source.files[file], reading.report)
        except UserError as error:
            yield Row(name, (), reason=f"caption file {shown} cannot be read: {error}")
            continue
        fault = "holds no text" if any(texts) else "is empty"
        yield Row(name, texts, reason=f"caption file {shown} {fault}")


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


def _sidecar(ending: str, texts_of: Callable[[Path, Report], list[Any]]) -> Convention:
    return Convention(
        f"NAME{ending}",
        "beside each picture",
        functools.partial(_looks, ending),
        functools.partial(_reads, ending, texts_of),
    )


SIDECARS = (
    _sidecar(".txt", _from_lines),
    _sidecar(".caption", _from_lines),
    _sidecar(".json", _from_json),
)
