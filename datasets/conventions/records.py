"""Read .csv, .tsv, .jsonl and .parquet tables as records: a dictionary for each row.

A faulty row is skipped and counted with its file and line.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datasets.columns import (
    CAPTION_COLUMNS,
    choose_column,
    import_pyarrow,
    split_named,
    usual_column,
)
from datasets.conventions.base import Reading, Row
from datasets.picture_files import is_picture_name
from dnnlib.errors import UserError, library_errors, reason_of
from dnnlib.names import listing, printable
from dnnlib.text import TextError, decode_text, parse_json, read_named_text, split_lines

SPLIT_COLUMNS = ("split",)
_PEEKED_ROWS = 1000  # rows that are read to learn the columns, before a column is chosen
_HEAD_BYTES = 4096


class Dialect(csv.excel):
    """Comma-separated values as spreadsheets write them. Unpaired quotation marks are errors."""

    strict = True


class Tabs(Dialect):
    """Tab-separated values, quoted as in `Dialect`."""

    delimiter = "\t"


class Semicolons(Dialect):
    """Semicolons, which spreadsheets write in locales where the comma is the decimal mark."""

    delimiter = ";"


class PlainTabs(Tabs):
    """Tab-separated values in which quotation marks are ordinary characters."""

    quoting = csv.QUOTE_NONE
    quotechar = None


class Bars(PlainTabs):
    """Values separated as in 'a| b| c', without quotation."""

    delimiter = "|"
    skipinitialspace = True


class Record(NamedTuple):
    """One row. line: the line number in the file, from 1, at which the row ends."""

    line: int
    values: dict[str, Any]


def table_rows(
    reading: Reading,
    file: str,
    file_columns: tuple[str, ...],
    dialect: type[csv.Dialect] | None = None,
) -> Iterator[Row]:
    """The rows of one table. Names of pictures are relative to the table's folder.

    file_columns: usual names of the column with the pictures' file names.
    dialect: of separated values; None to detect it.
    Raises `UserError` if no column holds file names or captions.
    """
    reading.tables.append(file)
    # Learn the columns from the first rows, and choose those of file names and captions.
    records = _records(reading, file, dialect)
    first = list(itertools.islice(records, _PEEKED_ROWS))
    columns = list(dict.fromkeys(key for record in first for key in record.values))
    if not columns:
        return
    shown = printable(reading.source.files[file])
    picture = usual_column(columns, file_columns)
    if picture is None:
        raise UserError(
            f"{shown}: none of the columns {', '.join(map(printable, columns))} is "
            f"named {' or '.join(file_columns)}; rename the column of the file names, "
            "or choose other captions with --captions-from"
        )
    caption = choose_column(
        columns, reading.caption_column, CAPTION_COLUMNS, "--caption-column", shown
    )
    reading.tell(f"column {printable(caption)}")
    # Yield a row for each record, and count the faulty ones.
    folder = os.path.dirname(file)
    for line, values in itertools.chain(first, records):
        name, texts = values.get(picture), values.get(caption)
        # Looked up in every record, because records of JSON lines may have different keys.
        split_column = usual_column(values, SPLIT_COLUMNS)
        split = values[split_column] if split_column else None
        if not isinstance(name, str) or not name.strip():
            reading.wrong_row(file, line, f"no file name under {picture!r}")
            continue
        side = split_named(split) if isinstance(split, str) and split.strip() else None
        if side is None and split not in (None, ""):
            reading.wrong_row(file, line, f"the split {split!r} is none of train, test, validation")
            continue
        yield Row(
            name,
            texts if isinstance(texts, list) else [texts],
            side,
            f"{shown}, line {line}",
            folder=folder,
        )


def text_of(reading: Reading, file: str) -> str:
    """The text of a whole file. Raises `UserError` if it cannot be read as text."""
    path = reading.source.files[file]
    text, mended = read_named_text(path, printable(path))
    reading.report.mended(mended)
    return text


def first_line(path: Path) -> str:
    """The first line of a text file; '' if the file is no text or cannot be read."""
    try:
        with library_errors(TextError), open(path, "rb") as file:
            text, _ = decode_text(file.read(_HEAD_BYTES))
    except TextError:
        return ""
    return split_lines(text)[0]


def separated(
    reading: Reading, file: str, text: str, dialect: type[csv.Dialect]
) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row of the file's text. Damaged rows are counted and skipped.

    Empty rows are skipped.
    """
    rows = csv.reader(io.StringIO(text, newline=""), dialect)
    while True:
        last_line = rows.line_num
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            reading.wrong_row(
                file,
                _lines(last_line + 1, rows.line_num),
                f"{reason_of(error)}; is a quotation mark missing?",
            )
            continue
        if any(field.strip() for field in fields):
            yield rows.line_num, fields


def _lines(first: int, last: int) -> int | str:
    return first if last <= first else f"lines {first} to {last}"


def _records(reading: Reading, file: str, dialect: type[csv.Dialect] | None) -> Iterator[Record]:
    ending = PurePosixPath(file).suffix.lower()
    if ending == ".parquet":
        return _from_parquet(reading, file)
    if ending == ".jsonl":
        return _from_json_lines(reading, file)
    return _from_separated(reading, file, dialect)


def _dialect(reading: Reading, file: str, text: str) -> type[csv.Dialect]:
    """The dialect of a .csv or .tsv file, by its ending and the separators in its header.

    A .csv file whose header has no comma may be separated by tabs or semicolons. Tab-separated
    values with unpaired quotation marks are read as `PlainTabs`.
    """
    header = split_lines(text[:_HEAD_BYTES])[0]
    if file.lower().endswith(".tsv") or ("," not in header and "\t" in header):
        try:
            for _ in csv.reader(io.StringIO(text, newline=""), Tabs):
                pass
        except csv.Error:
            reading.tell("quotation marks belong to the text")
            return PlainTabs
        return Tabs
    return Semicolons if "," not in header and ";" in header else Dialect


def _from_separated(
    reading: Reading, file: str, dialect: type[csv.Dialect] | None
) -> Iterator[Record]:
    text = text_of(reading, file)
    rows = separated(reading, file, text, dialect or _dialect(reading, file, text))
    first = next(rows, (0, []))
    header = [name.strip() for name in first[1]]
    # A first row with a picture's name and a caption means that there is no header.
    if len(header) == 2 and is_picture_name(header[0]):
        header, rows = ["file_name", "caption"], itertools.chain([first], rows)
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise UserError(
            f"{printable(reading.source.files[file])}: several columns are named "
            f"{listing(repeated)}; rename them, because only one of them would be read"
        )
    for line, fields in rows:
        if len(fields) != len(header):
            reading.wrong_row(
                file,
                line,
                f"{len(fields)} fields where the header has "
                f"{len(header)}; are quotation marks missing?",
            )
        else:
            yield Record(line, dict(zip(header, fields, strict=True)))


def _from_json_lines(reading: Reading, file: str) -> Iterator[Record]:
    for line, text in enumerate(split_lines(text_of(reading, file)), start=1):
        if not text.strip():
            continue
        try:
            values = parse_json(text, "the line")
        except UserError as error:
            reading.wrong_row(file, line, str(error))
            continue
        if isinstance(values, dict):
            yield Record(line, values)
        else:
            reading.wrong_row(file, line, f"expected an object, got {text.strip()[:60]}")


def _from_parquet(reading: Reading, file: str) -> Iterator[Record]:
    import_pyarrow("Parquet files")
    path = reading.source.files[file]
    with library_errors(
        lambda reason: UserError(
            f"{printable(path)} cannot be read as a Parquet file ({reason}); copy it again"
        )
    ):
        from pyarrow import parquet

        with parquet.ParquetFile(path) as table:
            usable = [
                name
                for name in table.schema_arrow.names
                if not _holds_pictures(table.schema_arrow.field(name).type)
            ]
            line = 0
            for batch in table.iter_batches(batch_size=1024, columns=usable):
                for values in batch.to_pylist():
                    line += 1
                    yield Record(line, values)


def _holds_pictures(kind: Any) -> bool:
    """Whether a column's type is binary or a structure such as {bytes, path}.

    Such columns hold the pictures' bytes, which are too large to read for a name.
    """
    return str(kind).startswith(("struct", "binary", "large_binary"))
