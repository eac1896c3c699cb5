"""`python -m benchmarks.faults --json FILE` causes every fault and writes a record.

FILE.md beside the record holds the table. The seed chooses the points in time.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import click
import scipy.linalg  # noqa: F401 (imported here once for all commands)
import timm  # noqa: F401
import torch

import metrics.features.detectors.lite2
import metrics.runner  # noqa: F401
from benchmarks.faults.injections import private_mounts
from benchmarks.faults.lab import Lab
from benchmarks.faults.table import FAULTS, cause, shown, table
from benchmarks.harness import RECORD, machine
from dnnlib.console import report_user_errors
from dnnlib.files import write_json, write_text
from dnnlib.ownership import refuse_foreign, starting_with

TITLE = "# What faults leave behind"
IS_TABLE = starting_with(TITLE)


def cpu_seconds() -> float:
    """Processor time of this process and of all its processes that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def write_record(path: Path, rows: list[dict[str, Any]], seed: int, began: float) -> None:
    record = {
        "benchmark": "faults",
        "date": date.today().isoformat(),
        "seed": seed,
        "machine": machine(torch.device("cpu")),
        "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(cpu_seconds()),
        "table": table(rows),
        "rows": rows,
    }
    write_json(path, record, ours=RECORD)
    text = (
        f"{TITLE}\n\n`python -m benchmarks.faults --seed {seed}`, {record['date']}, "
        f"{record['cpu_seconds']} s of processor time. `{path.name}` names every point.\n\n"
    )
    write_text(path.with_suffix(".md"), text + shown(table(rows)) + "\n", ours=IS_TABLE)


@click.command()
@click.option("--short", is_flag=True, help="A few points, for the tests.")
@click.option(
    "--only", "names", type=click.Choice(list(FAULTS)), multiple=True, help="May be repeated."
)
@click.option("--seed", default=0, show_default=True, help="Another seed chooses other points.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the record to this file."
)
@report_user_errors
def main(short: bool, names: tuple[str, ...], seed: int, json_path: Path | None) -> None:
    """Break commands on purpose and count what was lost. Exits with code 1 if anything was."""
    if json_path is not None:
        refuse_foreign(json_path, RECORD)
        refuse_foreign(json_path.with_suffix(".md"), IS_TABLE)
    torch.set_num_threads(1)
    began, rows = time.monotonic(), list[dict[str, Any]]()
    try:
        private_mounts()
        mounts = True
    except OSError:
        mounts = False
    gc.freeze()  # a collection in a child would copy the memory that it shares
    with tempfile.TemporaryDirectory(prefix="eidgan-faults-", ignore_cleanup_errors=True) as folder:
        lab = Lab(Path(folder), mounts)
        for name in names or FAULTS:
            for number in range(FAULTS[name].in_short if short else FAULTS[name].times):
                rows.append(row := cause(name, number, seed, lab))
                end = "; ".join(row["faults"]) or "recovered"
                end = f"skipped: {row['skipped']}" if "skipped" in row else end
                click.echo(f"{name}, {row['point']}: {end}")
    click.echo(f"\n{shown(table(rows))}\n{cpu_seconds():.0f} s of processor time")
    if json_path is not None:
        write_record(json_path, rows, seed, began)
    sys.exit(any(row["faults"] for row in rows))


if __name__ == "__main__":
    main()
