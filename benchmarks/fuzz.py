"""Feed random input to everything that reads a stranger's file, text or request: a fuzz test.

`python -m benchmarks.fuzz --cases 100000 --json FILE` draws cases with hypothesis and counts the
results. A finding is any exception but `UserError`, a status of 500 or more, or a broken promise,
such as a control character in a line for the terminal. The shortest case of every finding is
written to a file, which the tests read again once the fault is mended. Damaged pictures and
archives are the business of `benchmarks.fuzz_imports`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import click
import hypothesis

from benchmarks.fuzz_subjects import SUBJECTS
from benchmarks.harness import RECORD
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import write_json, write_text
from dnnlib.ownership import json_with, refuse_foreign

CHUNK = 1000  # cases that hypothesis draws at once: it remembers all of them
FINDING = json_with("subject", "case")
SLOW_S = 2.0  # a case that takes longer is a finding


@dataclass
class Findings:
    """counts: of 'read', 'refused' and 'finding'. shortest: by place, case and traceback."""

    counts: Counter[str] = field(default_factory=Counter)
    shortest: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def add(self, place: str, case: Any, text: str) -> None:
        self.counts["finding"] += 1
        known = self.shortest.get(place)
        if known is None or len(json.dumps(case)) < len(json.dumps(known[0])):
            self.shortest[place] = (case, text)


def try_case(subject: str, case: Any, folder: Path) -> str:
    """'read' or 'refused'. Raises whatever a user would see as a traceback."""
    with tempfile.TemporaryDirectory(dir=folder) as empty:
        try:
            SUBJECTS[subject].read(case, Path(empty))
        except UserError as error:
            str(error)
            return "refused"
    return "read"


def run(subject: str, num: int, seed: int, folder: Path) -> Findings:
    """`num` cases of a subject in chunks, each with a seed that follows from `seed`."""
    found = Findings()

    def one(case: Any) -> None:
        began = time.process_time()
        try:
            result = try_case(subject, case, folder)
            if time.process_time() - began > SLOW_S:  # perhaps only the first use of a library
                began = time.process_time()
                try_case(subject, case, folder)
        except Exception as error:  # all that is no UserError is what this script looks for
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
            found.add(place, case, traceback.format_exc(limit=-4))
            return
        if time.process_time() - began > SLOW_S:
            found.add("slow", case, f"the case took more than {SLOW_S} s")
            return
        found.counts[result] += 1

    for start in range(0, num, CHUNK):
        test = hypothesis.given(SUBJECTS[subject].cases)(one)
        test = hypothesis.settings(
            max_examples=min(CHUNK, num - start),
            database=None,
            deadline=None,
            phases=(hypothesis.Phase.generate,),
            suppress_health_check=list(hypothesis.HealthCheck),
        )(test)
        hypothesis.seed(f"{subject} {seed} {start}")(test)()
    return found


def keep(found: Findings, subject: str, folder: Path) -> None:
    """Write the shortest case of each finding to a file that the tests can read again."""
    for number, (place, (case, _)) in enumerate(sorted(found.shortest.items())):
        name = f"{subject.replace(' ', '-')}-{number}.json"
        finding = {"subject": subject, "place": place, "case": case}
        # In ASCII, since a case may hold halves of surrogate pairs.
        write_text(folder / name, json.dumps(finding, indent=2) + "\n", ours=FINDING)


def record_of(rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The record of the subjects that are finished."""
    return {
        "benchmark": "fuzz",
        "date": date.today().isoformat(),
        "seed": seed,
        "hypothesis": hypothesis.__version__,
        "cases": sum(row["cases"] for row in rows),
        "findings": sum(row["finding"] for row in rows),
        "cpu_seconds": round(sum(row["cpu_seconds"] for row in rows), 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "cores": os.cpu_count(),
        "rows": rows,
    }


@click.command()
@click.option("--cases", default=2_000, show_default=True, help="Number of cases of all subjects.")
@click.option("--subject", "subjects", type=click.Choice(list(SUBJECTS)), multiple=True,
              help="Only this subject, with all cases; may be repeated.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Another seed draws other cases.")
@click.option("--keep", "keep_in", type=click.Path(path_type=Path),
              help="Folder for the shortest case of every finding.")  # fmt: skip
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the record to this file."
)
@report_user_errors
def main(
    cases: int, subjects: tuple[str, ...], seed: int, keep_in: Path | None, json_path: Path | None
) -> None:
    """Feed random input to every reader and count the results. Exits with code 1 on a finding."""
    if json_path is not None:
        refuse_foreign(json_path, RECORD)
    warnings.simplefilter("ignore")
    rows = []
    total = sum(SUBJECTS[name].share for name in subjects or SUBJECTS)
    for name in subjects or SUBJECTS:
        began, num = time.process_time(), round(cases * SUBJECTS[name].share / total)
        with tempfile.TemporaryDirectory(prefix="eidgan-fuzz-") as folder:
            found = run(name, num, seed, Path(folder))
        row = {"subject": name, "cases": found.counts.total()}
        row |= {key: found.counts[key] for key in ("read", "refused", "finding")}
        rows.append(row | {"cpu_seconds": round(time.process_time() - began, 1)})
        click.echo("  ".join(f"{key}={value}" for key, value in rows[-1].items()))
        for place, (case, text) in sorted(found.shortest.items()):
            click.echo(f"    {place}: {json.dumps(case)[:300]}\n{text}")
        if keep_in is not None:
            keep(found, name, keep_in)
        if json_path is not None:
            write_json(json_path, record_of(rows, seed), ours=RECORD)
    sys.exit(any(row["finding"] for row in rows))


if __name__ == "__main__":
    main()
