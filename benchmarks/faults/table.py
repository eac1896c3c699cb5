"""The faults, how often each is caused, and the table of their results."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from benchmarks.faults import training_faults as runs
from benchmarks.faults import writing_faults as written
from benchmarks.faults.lab import Lab, SkippedFault


class Fault(NamedTuple):
    """times: in a full run; in_short: in a short one. cause: as in `training_faults`."""

    cause: Callable[[Lab, random.Random], runs.Outcome]
    times: int
    in_short: int


FAULTS = {
    "kill -9 while training": Fault(runs.kill_training, 6, 0),
    "kill -9 while writing a checkpoint": Fault(runs.kill_checkpoint, 6, 1),
    "kill -9 while writing a snapshot": Fault(runs.kill_snapshot, 5, 0),
    "kill -9 at any change of the run folder": Fault(runs.kill_any_change, 5, 0),
    "kill -9 while writing a metric cache": Fault(
        partial(written.kill_write, products=written.FEATURES), 3, 0
    ),
    "kill -9 while writing a data set": Fault(
        partial(written.kill_write, products=written.DATA_SETS), 6, 1
    ),
    "kill -9 while writing a video": Fault(
        partial(written.kill_write, products=written.VIDEOS), 6, 0
    ),
    "kill -9 while writing a huge picture": Fault(
        partial(written.kill_write, products=written.HUGE), 6, 1
    ),
    "disk full in a run": Fault(runs.full_disk, 4, 1),
    "disk full in another command": Fault(written.full_disk, 4, 0),
    "truncated newest checkpoint": Fault(runs.truncated_checkpoint, 4, 0),
    "flipped bit in the newest checkpoint": Fault(runs.flipped_bit, 5, 1),
    "not a finite gradient, --nan-policy stop": Fault(
        partial(runs.not_finite, policy="stop"), 2, 0
    ),
    "not a finite gradient, --nan-policy skip": Fault(
        partial(runs.not_finite, policy="skip"), 2, 0
    ),
    "not a finite gradient, --nan-policy rollback": Fault(
        partial(runs.not_finite, policy="rollback"), 2, 0
    ),
    "rank 0 of 2 killed": Fault(partial(runs.dying_rank, rank=0), 2, 0),
    "rank 1 of 2 killed": Fault(partial(runs.dying_rank, rank=1), 2, 0),
    "stale lock of a build": Fault(written.stale_lock, 2, 1),
    "clock that jumps": Fault(runs.jumped_clock, 3, 0),
    "loader process killed": Fault(runs.killed_worker, 3, 1),
    "read-only run folder": Fault(runs.read_only_folder, 2, 0),
    "two commands on one run folder": Fault(runs.two_at_once, 3, 1),
}


def cause(name: str, number: int, seed: int, lab: Lab) -> dict[str, Any]:
    """Cause a fault at one point. The seed and the number choose the point."""
    row: dict[str, Any] = {"fault": name, "point": "", "faults": []}
    try:
        row["point"], row["faults"] = FAULTS[name].cause(
            lab, random.Random(f"{seed} {name} {number}")
        )
    except SkippedFault as reason:
        row["skipped"] = str(reason)
    return row


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of text: fault, times, recovered, lost; the heading first and the sums last."""
    lines = [["fault", "times", "recovered", "lost"]]
    for name in [name for name in FAULTS if any(row["fault"] == name for row in rows)]:
        lines.append([name, *_counts([row for row in rows if row["fault"] == name])])
    return [*lines, ["all", *_counts(rows)]]


def _counts(rows: list[dict[str, Any]]) -> list[str]:
    tried = [row for row in rows if "skipped" not in row]
    lost = sum(bool(row["faults"]) for row in tried)
    return [str(len(tried)), str(len(tried) - lost), str(lost)]


def shown(lines: list[list[str]]) -> str:
    """The table for a terminal, which is a table of Markdown, too."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines = [lines[0], ["-" * width for width in widths], *lines[1:]]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
