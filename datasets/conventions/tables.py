"""Tables with a row for each picture: captions.csv, captions.tsv and Hugging Face's imagefolder.

The tables of an imagefolder are metadata.csv, metadata.jsonl and metadata.parquet.
A metadata file lies in the folder of its pictures or in a folder above it. Its column `file_name`
is relative to the metadata file (https://huggingface.co/docs/datasets/image_dataset).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from datasets.conventions.base import Convention, Reading, Row, files_named
from datasets.conventions.records import table_rows

_IMAGEFOLDER_COLUMNS = ("file_name",)
_FILE_COLUMNS = (
    "file_name",
    "filename",
    "file",
    "image",
    "image_name",
    "image_path",
    "filepath",
    "path",
    "name",
    "img",
)


def _reads(file_columns: tuple[str, ...], reading: Reading) -> Iterator[Row]:
    for file in reading.files:
        yield from table_rows(reading, file, file_columns)


IMAGEFOLDERS = tuple(
    Convention(
        name,
        "Hugging Face imagefolder",
        files_named(name),
        functools.partial(_reads, _IMAGEFOLDER_COLUMNS),
    )
    for name in ("metadata.jsonl", "metadata.csv", "metadata.parquet")
)

CAPTION_TABLES = tuple(
    Convention(
        name, name, files_named(name), functools.partial(_reads, _FILE_COLUMNS), anywhere=True
    )
    for name in ("captions.csv", "captions.tsv")
)
