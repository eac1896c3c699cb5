"""Read failures and notes from the record and the output of a part of the GPU check.

The part may have been cut off by its time limit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Messages of compute-sanitizer if it cannot work: on some virtual machines it has no access to the
# GPU, on others no access to the program.
REFUSALS = ("Device not supported", "terminated before first instrumented API call")
# Lines that programs of the check print: the number and name of a case of `kernels`, the end of all
# cases, and the name of a case that `sanitize` could not check.
LINE_OF_CASE, ALL_DONE, NOT_CHECKED = "case {}: {}", "all cases done", "NOT CHECKED "
# Variants of the benchmarks that depend on PyTorch's compiler. They may fail.
YARDSTICKS = ("compile",)
LABELS = ("generator", "op", "part", "resolution", "batch", "dtype", "variant")


@dataclass(frozen=True)
class Findings:
    """The results of a part.

    failures: each of them fails the check. notes: figures and missing packages. refused: why the
    part's tool cannot run on this machine; '' if it can.
    """

    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refused: str = ""


def of_commands(record: dict[str, Any] | None, output: Sequence[str]) -> Findings:
    """The results in a record of `benchmarks.gpu_check.commands`; None without a record."""
    record = record or {}
    steps, comparisons = record.get("steps", []), record.get("comparisons", [])
    failures = [f"{s['name']}: {s['note']}" for s in steps if s["outcome"] == "failed"]
    for row in comparisons:
        if not row["equal"]:
            values = f"{row['device']:.6g}, on the CPU {row['cpu']:.6g}"
            failures.append(f"{row['what']}: {values}, allowed {row['allowed'] or 0:.2g}")
    done = ", ".join(s["name"] for s in steps if s["outcome"] == "passed")
    notes = [f"done: {done or 'nothing'}", f"{len(comparisons)} comparisons with the CPU"]
    notes += [f"{s['name']} missing: {s['note']}" for s in steps if s["outcome"] == "missing"]
    return Findings(tuple(failures), tuple(notes))


def of_tests(record: dict[str, Any] | None, output: Sequence[str]) -> Findings:
    """The results in the output of `pytest -vv`, which has a line for each test."""
    line_of = re.compile(
        r"(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)(?: \((.*?)\))?\s*(?:\[ *\d+%\])?$"
    )
    failures, passed, skipped = [], 0, Counter[str]()
    for line in output:
        match = line_of.match(line)
        if match is None:
            continue
        name, outcome, reason = match.groups()
        if outcome == "PASSED":
            passed += 1
        elif outcome == "SKIPPED":
            skipped[reason or "no reason given"] += 1
        else:
            failures.append(f"{name.rpartition('/')[2]} {outcome.lower()}")
    notes = [f"{passed} tests passed"]
    notes += [f"{count} skipped: {reason}" for reason, count in skipped.items()]
    return Findings(tuple(failures), tuple(notes))


def of_benchmark(record: dict[str, Any] | None, output: Sequence[str]) -> Findings:
    """The variants that could not run, from a record of `benchmarks.harness.Bench`."""
    rows = (record or {}).get("rows", [])
    failures: list[str] = []
    notes = [f"{len(rows)} rows"]
    for row in rows:
        if "problem" not in row:
            continue
        labels = " ".join(str(row[key]) for key in LABELS if key in row)
        harmless = row["variant"] in YARDSTICKS or row["problem"] == "out of memory"
        (notes if harmless else failures).append(f"{labels}: {row['problem']}")
    return Findings(tuple(failures), tuple(notes))


def of_sanitizer(record: dict[str, Any] | None, output: Sequence[str]) -> Findings:
    """The results in the output of `benchmarks.gpu_check.sanitize`.

    A summary counts an internal error of the sanitizer as one error or hazard. It is reported as
    such, with the case in which it happened, and the summary fails the check only for more.
    """
    for refusal in REFUSALS:
        if any(refusal in line for line in output):
            return Findings(refused=f"compute-sanitizer cannot work here: {refusal}")
    failures, notes, case, internal = [], [], "before the first case", 0
    for line in (line.strip("= \n") for line in output):
        summary = re.match(r"(ERROR|RACECHECK) SUMMARY: (\d+)", line)
        if line.startswith("case "):
            case = line.partition(": ")[2]
        elif "Internal Sanitizer Error" in line:
            internal += 1
            failures.append(f"{case}: {line}")
        elif line.startswith(NOT_CHECKED) and not any(case in failure for failure in failures):
            failures.append(line)
        elif summary:
            found = int(summary[2])
            if found > internal:
                failures.append(line)
            elif not found:
                notes.append(line)
            internal = 0
    return Findings(tuple(failures), tuple(notes))
