"""captions.jsonl, this program's form: a line {"file": "a/b.jpg", "captions": [...]} a picture.

A line may also hold "split": "train" or "test". The file is written by programs, so a malformed
line raises an error and is not skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

from datasets.archive import SPLITS
from datasets.conventions.base import Convention, Reading, Row
from datasets.conventions.records import text_of
from datasets.source_files import is_below
from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from dnnlib.names import printable
from dnnlib.text import parse_json, split_lines

CAPTIONS_FILE = "captions.jsonl"


def _reads(reading: Reading) -> Iterator[Row]:
    path = printable(reading.source.files[CAPTIONS_FILE])
    for number, line in enumerate(split_lines(text_of(reading, CAPTIONS_FILE)), start=1):
        if line.strip():
            yield _row(line, f"{path}, line {number}")


def _row(line: str, place: str) -> Row:
    record = parse_json(line, place)
    if not isinstance(record, dict):
        raise UserError(
            f'{place}: expected {{"file": ..., "captions": [...]}}, got {line.strip()[:60]}'
        )
    keys = ("file", "captions", "split")
    for key in record:
        if key not in keys:
            raise UserError(f"{place}: unknown key {key!r}; {nearest(key, keys)}")
    for key in keys[:2]:
        if key not in record:
            raise UserError(f"{place}: key {key!r} is missing")
    file, captions, split = record["file"], record["captions"], record.get("split")
    if not isinstance(file, str) or not file.strip() or not is_below(file):
        raise UserError(f"{place}: 'file' must be a path below the source folder, got {file!r}")
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise UserError(f"{place}: 'captions' must be a list of texts, got {captions!r}")
    if split not in (None, *SPLITS):
        raise UserError(f"{place}: 'split' must be one of {', '.join(SPLITS)}, got {split!r}")
    return Row(file, captions, split, place)


CAPTIONS_JSONL = Convention(
    CAPTIONS_FILE,
    CAPTIONS_FILE,
    lambda source: [CAPTIONS_FILE] if CAPTIONS_FILE in source.files else [],
    _reads,
    once=True,
)
