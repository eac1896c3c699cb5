"""Compare recipes, or variants of a recipe, at equal processor time, with several seeds each.

    python -m benchmarks.recipe_trials --outdir runs/trials --data data/flowers64.zip \\
        --trial flowers=eidgan-flowers64 \\
        --trial "noplace=eidgan-flowers64 generator.place=false" --cpu-minutes 60 --json FILE

Each trial is trained with each seed by train.py, with one thread on the CPU, until its processor
time is used; `trial_runs` describes how the end is planned if the learning rate falls. The table
has the minutes that the runs took. Then the newest snapshots are scored by the code of
calc_metrics.py. The processor time does not include the scores and the captions' text features,
which are computed before.

On SIGINT and SIGTERM the state of the running trainings is saved (exit code 3). The same command
resumes them; finished runs and their scores are kept. A call with fewer trials or seeds prints
their table.
"""

from __future__ import annotations

import contextlib
import datetime
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.comparison_scores import read_run
from benchmarks.harness import RECORD, machine
from benchmarks.trial_page import Rows, differing, least_difference, trial_scores
from benchmarks.trial_runs import TrialRun, parse_trial
from datasets.text_image import TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import locked, make_folder, write_json, write_text
from dnnlib.number_options import FiniteFloat
from dnnlib.ownership import refuse_foreign, starting_with
from dnnlib.seeds import parse_seeds
from metrics.evaluations import evaluations_named, served
from torch_utils.local_ranks import use_one_thread
from train import STOPPED

METRICS = "kid_lite2,swd,motif,ppd,clip_s_small_heldout"
TITLE = "# Recipes at equal processor minutes"
IS_PAGE = starting_with(TITLE)


def check_metrics(metrics: str, data: str) -> list[str]:
    """The names of the evaluations. Raises `UserError` if the data do not suffice for one."""
    evaluations = evaluations_named([name.strip() for name in metrics.split(",")])
    dataset = TextImageDataset(data, split="all")
    kept, unserved = served(evaluations, dataset.splits, dataset.has_captions)
    for lack, names in unserved.items():
        raise UserError(f"--metrics {', '.join(names)}: --data {data} has no {lack}; leave it out")
    return [evaluation.name for evaluation in kept]


@contextlib.contextmanager
def set_by_signals(stop: threading.Event) -> Iterator[None]:
    """A context in which the first SIGINT or SIGTERM sets `stop`.

    A second signal has the effect that it had before the context.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def set_stop(number: int, frame: object) -> None:
        stop.set()
        restore()

    for number in handlers:
        signal.signal(number, set_stop)
    try:
        yield
    finally:
        restore()


def train_all(runs: Sequence[TrialRun], jobs: int) -> list[str]:
    """Train the unfinished runs in this order, `jobs` at a time. Returns a line for each error.

    Exits with code 3 if a signal stops the trainings.
    """
    stop, problems = threading.Event(), []

    def work(run: TrialRun) -> None:
        if run.done or stop.is_set():
            return
        click.echo(f"{run.name}: trains", err=True)
        try:
            run.train(stop)
        except UserError as error:
            problems.append(str(error))
        click.echo(
            f"{run.name}: {run.points[-1][1] / 1000:g} kimg, "
            f"{run.cpu_s / 60:.1f} processor minutes",
            err=True,
        )

    with set_by_signals(stop), ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work, run) for run in runs]:
            done.result()
    if stop.is_set():
        click.echo("Stopped; run the same command again to go on.", err=True)
        sys.exit(STOPPED)
    return problems


def scored(run: TrialRun, data: str, metrics: list[str], num: int | None) -> dict[str, Any]:
    """The row of a finished run: its settings, its time, its values, notes and scores."""
    finished = read_run(run.folder, data, metrics, num, "none", torch.device("cpu"))
    records = {name: finished.scores[name] for name in metrics}
    return run.row() | {
        "hours": finished.hours,
        "values": {name: record["value"] for name, record in records.items()},
        "notes": {
            name: record.get("note", "the record gives no reason")
            for name, record in records.items()
            if record["value"] is None
        },
        "records": records,
    }


def page(rows: Rows, metrics: Sequence[str], problems: Sequence[str]) -> str:
    """The whole page in Markdown."""
    unfinished = [f"\nNot finished: {problem}" for problem in problems]
    return "\n".join([TITLE, "", *trial_scores(rows, metrics), *unfinished, ""])


@click.command()
@click.option(
    "--outdir",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the run folders NAME-seedN and their records.",
)
@click.option(
    "--trial",
    "trials",
    multiple=True,
    required=True,
    metavar="'NAME=RECIPE A.B=VALUE'",
    help="A name, a recipe and values of fields of its config; may be repeated.",
)
@click.option("--data", required=True, metavar="ZIP")
@click.option("--seeds", default="0-2", show_default=True, metavar="LIST")
@click.option(
    "--cpu-minutes",
    "minutes",
    required=True,
    metavar="N",
    type=FiniteFloat(min=0, min_open=True),
    help="Processor time of each run.",
)
@click.option(
    "--metrics", default=METRICS, show_default=True, help="calc_metrics.py list names them."
)
@click.option(
    "--num-images",
    "num",
    type=click.IntRange(min=2),
    help="Number of generated pictures.  [default: the evaluation's number]",
)
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of trainings at the same time; at most the number of idle cores.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write the record to this file, and the page to FILE.md.",
)
@report_user_errors
def main(
    outdir: Path,
    trials: tuple[str, ...],
    data: str,
    seeds: str,
    minutes: float,
    metrics: str,
    num: int | None,
    jobs: int,
    path: Path | None,
) -> None:
    """Train each trial with each seed for equal processor time, and tabulate the scores."""
    # Check the options.
    arguments = click.get_current_context().params
    if sys.platform != "linux":
        raise UserError("this benchmark reads processor time from /proc; run it on Linux")
    if path and path.suffix != ".json":
        raise UserError(f"--json {path}: the name must end in .json; the page goes to .md")
    for target, ours in ((path, RECORD), (path and path.with_suffix(".md"), IS_PAGE)):
        if target:
            refuse_foreign(target, ours)
    use_one_thread()
    chosen, data = [parse_trial(text) for text in trials], str(Path(data).resolve())
    if len({trial.name for trial in chosen}) < len(chosen):
        raise UserError("--trial: two trials have the same name; give each a different name")
    numbers = parse_seeds(seeds)
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--seeds {seeds}: name each seed once")
    runs = [TrialRun(trial, seed, minutes, data, outdir) for seed in numbers for trial in chosen]
    for trial in chosen:
        trial.config()
    names = check_metrics(metrics, data)

    # Train the runs, score them and write the results.
    make_folder(outdir)
    with locked(outdir):
        for run in runs:
            run.open()
        for trial in chosen:
            trial.prepare(data, outdir)
        problems = train_all(runs, jobs)
        rows = [scored(run, data, names, num) for run in runs if run.done]
    if rows:
        write_results(path, page(rows, names, problems), rows, names, arguments)
    if problems:
        raise UserError("; ".join(problems))


def write_results(
    path: Path | None, text: str, rows: Rows, metrics: Sequence[str], arguments: dict[str, Any]
) -> None:
    """Print the page, and write it and the record if `path` is given."""
    click.echo(text)
    if not path:
        return
    least = {
        metric: pooled
        and {
            "deviation": pooled.deviation,
            "freedom": pooled.freedom,
            "seeds": pooled.seeds,
            "least": pooled.least,
        }
        for metric in metrics
        for pooled in [least_difference(rows, metric)]
    }
    write_json(
        path,
        {
            "benchmark": "recipe trials",
            "date": datetime.date.today().isoformat(),
            "machine": machine(torch.device("cpu")),
            "arguments": {key: str(value) for key, value in arguments.items() if key != "path"},
            "rows": rows,
            "least_difference": least,
            "differ": {metric: differing(rows, metric) for metric in metrics},
        },
        ours=RECORD,
    )
    write_text(path.with_suffix(".md"), text, ours=IS_PAGE)


if __name__ == "__main__":
    main()
