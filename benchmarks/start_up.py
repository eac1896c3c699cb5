"""Start-up time and memory of commands in two checkouts: `python -m benchmarks.start_up OTHER`.

OTHER is a folder with the commit to compare with (`git worktree add OTHER COMMIT`). Every case is a
process that starts anew. The checkouts run in turns, round by round, so that load by other
processes affects both alike. The rows hold medians over the rounds, the first of which is left out:
it fills the caches of files and of compiled modules.

`cpu_s` is the processor time of the whole process and `wall_s` its elapsed time. `peak_mib` is the
largest resident memory. `anonymous_mib` and `file_mib` are the parts at its end: pages that belong
to the process alone, and pages of files, such as shared libraries, which processes share. With
--torch, this checkout also runs on another build of PyTorch, such as one without CUDA's libraries.
Linux only.
"""

from __future__ import annotations

import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.harness import RECORD, machine
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import read_json, write_json
from dnnlib.ownership import refuse_foreign

HERE = Path(__file__).parents[1]
PICTURE = ["--network", "flowers64", "--prompts", "a pink flower", "--device", "cpu"]
CASES = {
    "import torch": ["-c", "import torch"],
    "generate.py --help": ["generate.py", "--help"],
    "generate.py --list-networks": ["generate.py", "--list-networks"],
    "dataset_tool.py --help": ["dataset_tool.py", "--help"],
    "calc_metrics.py list": ["calc_metrics.py", "list"],
    "train.py --dry-run": ["train.py", "--outdir", "OUT", "--recipe", "debug", "--dry-run"],
    "generate.py at 64 px": ["generate.py", *PICTURE, "--outdir", "OUT"],
    "generate.py at 1024 px": [
        *("generate.py", *PICTURE, "--outdir", "OUT", "--size", "1024", "--format", "tiff")
    ],
}
# Runs a command, and then writes what /proc/self/status says to the file that is the first argument
RUNNER = """
import json, runpy, sys, time
path, first, *rest = sys.argv[1:]
sys.argv = [first, *rest]
sys.path[0] = ""
try:
    exec(rest[0]) if first == "-c" else runpy.run_path(first, run_name="__main__")
except SystemExit as end:
    if end.code:
        raise
cpu = time.process_time()
with open("/proc/self/status") as file:
    lines = [line.split() for line in file]
numbers = {line[0]: int(line[1]) / 1024 for line in lines if line[-1] == "kB"}
keys = {"peak_mib": "VmHWM:", "anonymous_mib": "RssAnon:", "file_mib": "RssFile:"}
with open(path, "w") as file:
    json.dump({"cpu_s": cpu, **{key: numbers[name] for key, name in keys.items()}}, file)
"""


def run(checkout: Path, case: str, build: Path | None) -> dict[str, float]:
    """One run of a case: seconds and MiB. build: folder of another PyTorch.

    Raises `UserError` with the last line of the command's output where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        numbers = Path(folder) / "numbers.json"
        command = [sys.executable, "-c", RUNNER, str(numbers)]
        command += [folder if word == "OUT" else word for word in CASES[case]]
        paths = {"PYTHONPATH": str(build)} if build else {}
        began = time.perf_counter()
        done = subprocess.run(
            command, cwd=checkout, env=os.environ | paths, capture_output=True, text=True
        )
        wall = time.perf_counter() - began
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [""])[-1]
            raise UserError(f"{checkout}: {case} ended with {done.returncode} ({reason})")
        return {"wall_s": wall, **read_json(numbers)}


def row_of(case: str, side: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    """Medians of the runs."""
    median = {key: round(statistics.median(one[key] for one in runs), 3) for key in runs[0]}
    return {"case": case, "side": side, "rounds": len(runs), **median}


def output_of(command: list[str], folder: Path, build: Path | None = None) -> str:
    paths = {"PYTHONPATH": str(build)} if build else {}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | paths, capture_output=True, text=True
    )
    return done.stdout.strip()


@click.command()
@click.argument("other", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--torch",
    "build",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help="Folder into which pip has installed another build of PyTorch.",
)
@click.option("--cases", default="all", show_default=True, metavar="A;B", help="Names of cases.")
@click.option("--rounds", default=3, show_default=True, help="Rounds that count, after a first.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the record there.")
@report_user_errors
def main(other: Path, build: Path | None, cases: str, rounds: int, path: Path | None) -> None:
    """Start each command here and in the checkout OTHER, and print a row for each."""
    names = list(CASES) if cases == "all" else cases.split(";")
    if unknown := [name for name in names if name not in CASES]:
        raise UserError(f"--cases {unknown[0]!r}: choose from {'; '.join(CASES)}")
    if path:
        refuse_foreign(path, RECORD)
    sides: dict[str, tuple[Path, Path | None]] = {"before": (other, None), "now": (HERE, None)}
    version = [sys.executable, "-c", "import torch; print(torch.__version__)"]
    builds = {"now": str(torch.__version__)}
    if build:
        sides["other torch"] = (HERE, build)
        builds["other torch"] = output_of(version, HERE, build)
    rows = []
    for case in names:
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(rounds + 1):
            for side, (checkout, folder) in sides.items():
                measured = run(checkout, case, folder)
                if number:  # the first round fills caches
                    runs[side].append(measured)
        for side in sides:
            rows.append(row_of(case, side, runs[side]))
            click.echo(rows[-1])
    commits = {
        side: output_of(["git", "rev-parse", "--short", "HEAD"], folder)
        for side, (folder, _) in sides.items()
    }
    record = {
        "benchmark": "start-up", "date": f"{datetime.date.today()}", "commits": commits,
        "builds": builds, "cores": os.cpu_count(), "machine": machine(torch.device("cpu")),
        "rows": rows,
    }  # fmt: skip
    if path:
        write_json(path, record, ours=RECORD)


if __name__ == "__main__":
    main()
