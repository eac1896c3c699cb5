"""What the page shows of a run that may still be training: curves of stats.jsonl, sample grids."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError

MAX_READ = 16 << 20  # bytes at the end of stats.jsonl
MAX_POINTS, MAX_SERIES = 300, 40
FACTS = ("kimg", "elapsed_s", "sec_per_kimg", "eta_s", "batch")
GRID_NAME = re.compile(r"fakes\d+\.png")


def curves(run: Path) -> dict[str, Any]:
    """{"kimg": [P], "series": {name: [P] of numbers or None}, "last": newest facts, "grids": names}

    A series is a statistic whose name holds a slash, such as Loss/G. With many records, every n-th
    is taken and the newest one. Raises `UserError` where stats.jsonl cannot be read.
    """
    records = _records(run / "stats.jsonl")
    stride = max(1, math.ceil(len(records) / MAX_POINTS))
    shown = records[::-1][::stride][::-1]
    names = sorted({name for record in shown for name in record if "/" in name})[:MAX_SERIES]
    return {
        "kimg": [_number(record.get("kimg")) for record in shown],
        "series": {name: [_number(record.get(name)) for record in shown] for name in names},
        "last": {
            name: _number(records[-1][name]) for name in FACTS if records and name in records[-1]
        },
        "grids": grids(run),
    }


def grids(run: Path) -> list[str]:
    """The names of the sample grids of a run, oldest first. Pictures of the data are not listed."""
    return sorted(path.name for path in run.glob("fakes*.png") if GRID_NAME.fullmatch(path.name))


def grid_of(run: Path, name: str) -> Path:
    """The file of a sample grid. Raises `UserError` for a name that is not in the list."""
    if name not in grids(run):
        raise UserError(f"grid {name[:40]!r}: the run has no such sample grid")
    return run / name


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_READ))
            lines = file.read(MAX_READ).splitlines()[1 if size > MAX_READ else 0 :]
    except OSError as error:
        raise UserError(f"{path.name} of the run cannot be read ({error.strerror})") from None
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # a line that is being written
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def _number(value: object) -> float | None:
    """The value where it is a finite number, which is all that JSON can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not abs(value) <= sys.float_info.max:  # NaN fails this comparison too
        return None
    return float(f"{value:.6g}")
