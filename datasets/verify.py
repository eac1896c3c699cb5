"""Check a data set: open every picture and compare it with `dataset.json`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from datasets.archive import INDEX, Archive, entry_fault, mixture_fault
from datasets.picture_files import PictureError, load_stored
from datasets.stylegan import open_archive
from dnnlib.errors import UserError


def archive_faults(path: str | os.PathLike) -> Iterator[str]:
    """Yield the faults of a data set, each a line of text; no line for a sound data set."""
    try:
        archive = open_archive(path)
    except UserError as error:
        yield str(error)
        return
    seen: dict[str, set[str]] = {"file": set(), "id": set()}
    captioned: dict[str, bool] = {}
    items = archive.metadata["items"]
    if not items:
        yield f"{INDEX}: items is empty"
    for number, item in enumerate(items):
        fault = entry_fault(item, native=archive.native)
        if fault:
            yield f"{INDEX}: items[{number}]: {fault}"
        else:
            captioned[item["file"]] = bool(item["captions"])
        yield from _repeats(item, number, seen)
        if isinstance(item, dict) and isinstance(item.get("file"), str):
            size = item.get("size") if archive.native else list(archive.resolution)
            yield from _picture_faults(archive, item["file"], size)
    mixture = mixture_fault(captioned)
    if mixture:
        yield f"{INDEX}: {mixture}"
    for name in archive.names:
        if name not in seen["file"]:
            yield f"{name}: not listed in {INDEX}"


def _repeats(item: Any, number: int, seen: dict[str, set[str]]) -> Iterator[str]:
    for key, values in seen.items():
        value = item.get(key) if isinstance(item, dict) else None
        if isinstance(value, str):
            if value in values:
                yield f"{INDEX}: items[{number}]: {key} {value!r} is not unique"
            values.add(value)


def _picture_faults(archive: Archive, name: str, size: Any) -> Iterator[str]:
    """size: [width, height] as `dataset.json` gives it, which may be of a wrong form."""
    try:
        mode, pixels = load_stored(archive.read(name), name)
    except PictureError as error:
        yield f"{name}: not a readable picture ({error.reason})"
        return
    except UserError as error:
        yield str(error)
        return
    height, width = pixels.shape[:2]
    if isinstance(size, list) and [width, height] != size:
        yield f"{name}: size is {width}x{height}, not {'x'.join(map(str, size))}"
    if mode not in archive.modes:
        yield f"{name}: mode is {mode}, not {' or '.join(archive.modes)}"
