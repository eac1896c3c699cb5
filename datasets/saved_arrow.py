"""Import data sets that the Hugging Face library `datasets` saved with `save_to_disk`.

The Arrow files are read with pyarrow. The Hugging Face library is not used: this package has the
same name and hides it, and its readers may run code.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets.columns import CAPTION_COLUMNS, choose_column, import_pyarrow, split_named
from datasets.importing import RawPicture
from datasets.report import Report
from datasets.source_files import is_below
from dnnlib.errors import UserError, library_errors
from dnnlib.files import read_json

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "picture")


def saved_pictures(
    folder: str | os.PathLike,
    report: Report,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> Iterator[RawPicture]:
    """The rows of a saved data set, or of every split of a saved dictionary of splits.

    image_column, caption_column: the columns to read; None takes the first with a usual name.
    Pictures are the {bytes, path} records of the library's Image feature. Ids are SPLIT/ROW. Splits
    named test, validation, val, valid or dev become test, all others train.
    Raises `UserError` for a folder that `save_to_disk` did not write, and without pyarrow.
    """
    folder = Path(folder)
    splits: list[str | None]
    index = folder / "dataset_dict.json"
    if index.is_file():
        splits = [*_names(_object(index).get("splits"), f"{index}: 'splits'")]
    elif (folder / "state.json").is_file():
        splits = [None]
    else:
        raise UserError(
            f"--source {folder}: neither dataset_dict.json nor state.json there; give the folder "
            "that save_to_disk wrote"
        )
    return _pictures(folder, splits, report, image_column, caption_column)


def _pictures(
    folder: Path,
    splits: list[str | None],
    report: Report,
    image_column: str | None,
    caption_column: str | None,
) -> Iterator[RawPicture]:
    for name in splits:
        part = folder / name if name else folder
        split = split_named(name or "train") or "train"
        columns: tuple[str, str] | None = None
        for row, record, place in _rows(part):
            columns = columns or (
                choose_column(record, image_column, IMAGE_COLUMNS, "--image-column", place.name),
                choose_column(
                    record, caption_column, CAPTION_COLUMNS, "--caption-column", place.name
                ),
            )
            raw = _picture(
                record[columns[0]],
                record[columns[1]],
                f"{name or 'train'}/{row}",
                split,
                part,
                report,
            )
            if raw is not None:
                yield raw


def _rows(part: Path) -> Iterator[tuple[int, dict[str, Any], Path]]:
    """(row number from 0, value by column, file) of every row, in order."""
    arrow = import_pyarrow("Arrow files")
    state = _object(part / "state.json")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise UserError(
            f"{part}: rows were selected or shuffled and saved as indices; call flatten_indices() "
            "before save_to_disk"
        )
    row = 0
    for path in _data_files(part, state):
        with (
            library_errors(functools.partial(_damaged, path)),
            arrow.OSFile(str(path)) as file,
            arrow.ipc.open_stream(file) as stream,
        ):
            for batch in stream:
                # One row at a time, because a batch of pictures may be large.
                for index in range(batch.num_rows):
                    yield row, batch.slice(index, 1).to_pylist()[0], path
                    row += 1


def _data_files(part: Path, state: dict[str, Any]) -> list[Path]:
    entries = state.get("_data_files")
    if isinstance(entries, list):
        entries = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries]
    return [part / name for name in _names(entries, f"{part / 'state.json'}: '_data_files'")]


def _names(value: object, place: str) -> list[str]:
    names = (
        [name for name in value if isinstance(name, str) and is_below(name)]
        if isinstance(value, list)
        else []
    )
    if names != value:
        raise UserError(f"{place} must be a list of names, got {value!r}")
    return names


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be read as an Arrow stream ({reason}); copy the folder again")


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object; give the folder that save_to_disk wrote")
    return value


def _file_below(part: Path, name: object) -> Path | None:
    """The file that a row names, if it lies in the folder of the split also after all links."""
    if not isinstance(name, str) or not is_below(name):
        return None
    with contextlib.suppress(OSError, ValueError):  # a name that no system allows
        path = (part / name).resolve()
        if path.is_relative_to(part.resolve()) and path.is_file():
            return path
    return None


def _picture(
    image: Any, texts: Any, key: str, split: str, part: Path, report: Report
) -> RawPicture | None:
    """The picture of one row; None and a defect if it has no picture or no captions."""
    texts = texts if isinstance(texts, list) else [texts]
    captions = report.clean(text.get("raw") if isinstance(text, dict) else text for text in texts)
    if not captions:
        report.defect("picture without captions", key)
        return None
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes):
        path = image.get("path") if isinstance(image, dict) else None
        data = _file_below(part, path)
        if data is None:
            report.defect(
                "captions without picture",
                key,
                f"captions without picture: no bytes, and no file {path} below {part.name}",
            )
            return None
    return RawPicture(key, key, data, captions, split)
