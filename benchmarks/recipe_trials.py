"""Compare recipes, or variants of one, that get equal processor minutes, by several seeds each.

    python -m benchmarks.recipe_trials --outdir runs/trials --data data/flowers64.zip \\
        --trial flowers=eidgan-flowers64 \\
        --trial "noplace=eidgan-flowers64 generator.place=false" --cpu-minutes 60 --json FILE

Each trial trains with each seed by train.py, one thread on the CPU, until its processor time is
used; `trial_runs` says how the end is planned where a learning rate falls. The table gives the
minutes that the runs really took. Then the newest snapshots are scored by the code of
calc_metrics.py. Scores do not count as processor time, nor do the captions' text features, which
are made beforehand.

SIGINT and SIGTERM save the running trainings (exit code 3). The same command goes on, whatever
ended it; a finished run and its scores are left as they are. A call with fewer trials or seeds
gives the table of these.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import signal
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.comparison_page import CONFIDENCE, Scatter, scatter, spread
from benchmarks.comparison_scores import read_run
from benchmarks.harness import RECORD, machine
from benchmarks.trial_runs import TrialRun, parse_trial
from datasets.text_image import TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import locked, make_folder, write_json, write_text
from dnnlib.ownership import refuse_foreign, starting_with
from generate import parse_seeds
from metrics.evaluations import badness, better, evaluations_named, served
from torch_utils.local_ranks import use_one_thread
from train import STOPPED

METRICS = "kid_lite2,swd,motif,ppd,clip_s_small_heldout"
TITLE = "# Recipes at equal processor minutes"
IS_PAGE = starting_with(TITLE)
BEST = {"low": "less is better", "high": "more is better", "one": "1 is best"}
Rows = Sequence[dict[str, Any]]  # one a run, see `scored`


def check_metrics(metrics: str, data: str) -> list[str]:
    """Names of the protocols. Raises `UserError` for one that the data cannot serve."""
    protocols = evaluations_named([name.strip() for name in metrics.split(",")])
    dataset = TextImageDataset(data, split="all")
    kept, others = served(protocols, dataset.splits, dataset.has_captions)
    for lack, names in others.items():
        raise UserError(f"--metrics {', '.join(names)}: --data {data} has no {lack}; leave it out")
    return [evaluation.name for evaluation in kept]


@contextlib.contextmanager
def set_by_signals(stop: threading.Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM sets `stop`; a second one does what it did before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: object) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        restore()


def train_all(runs: Sequence[TrialRun], jobs: int) -> list[str]:
    """Train what is not done, some at a time, in this order -> what went wrong, a line a run.

    Leaves with exit code 3 where a signal has stopped it.
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
    """The row of a finished run: what it was asked, what it took, value by metric, and notes."""
    found = read_run(run.folder, data, metrics, num, "none", torch.device("cpu"))
    records = {name: found.scores[name] for name in metrics}
    return run.row() | {
        "hours": found.hours,
        "values": {name: record["value"] for name, record in records.items()},
        "notes": {
            name: record.get("note", "the record gives no reason")
            for name, record in records.items()
            if record["value"] is None
        },
    }


def by_trial(rows: Rows, metric: str) -> dict[str, list[float]]:
    """The values that are known, by trial, in the order of the rows."""
    found: dict[str, list[float]] = {}
    for row in rows:
        value = row["values"][metric]
        found.setdefault(row["trial"], []).extend([] if value is None else [value])
    return found


def least_difference(rows: Rows, metric: str) -> Scatter | None:
    """`comparison_page.scatter` over all trials; None where no trial has two values.

    With k trials of n seeds: t(0.975, k (n - 1)) x pooled deviation x sqrt(2 / n). Where trials
    have different numbers of values, n is the least of them.
    """
    samples = [sample for sample in by_trial(rows, metric).values() if sample]
    return scatter(samples, min(map(len, samples), default=1))


def differing(rows: Rows, metric: str) -> list[str]:
    """A line for each pair of trials whose means differ by more than the least difference."""
    found = least_difference(rows, metric)
    means = {
        name: statistics.mean(sample) for name, sample in by_trial(rows, metric).items() if sample
    }
    order = sorted(means, key=lambda name: badness(metric, means[name]))
    return [
        f"`{good}` is better than `{bad}` by {abs(means[good] - means[bad]):.3g}"
        for good, bad in itertools.combinations(order, 2)
        if found and abs(means[good] - means[bad]) > found.least
    ]


def cell(values: Sequence[float | None]) -> str:
    """'mean +- standard deviation over seeds'; '(1 seed)' instead where there is no second one."""
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    few = [f"{len(known)} of {len(values)} seeds"] if len(known) < len(values) else []
    few = few or (["1 seed"] if len(known) == 1 else [])
    scattered = f" +- {statistics.stdev(known):.2g}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.4g}{scattered}" + (f" ({few[0]})" if few else "")


def table(rows: Rows, metrics: Sequence[str]) -> list[str]:
    """Markdown: a row a trial."""
    lines = [
        "| Trial | Seeds | kimg | Processor minutes | "
        + " | ".join(f"`{name}`" for name in metrics)
        + " |",
        "|---" * (4 + len(metrics)) + "|",
    ]
    for name in dict.fromkeys(row["trial"] for row in rows):
        mine = [row for row in rows if row["trial"] == name]
        cells = [
            f"`{name}`",
            ", ".join(str(row["seed"]) for row in mine),
            *(spread([row[key] for row in mine]) for key in ("kimg", "cpu_minutes_used")),
            *(cell([row["values"][metric] for row in mine]) for metric in metrics),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    notes = dict.fromkeys(
        f"- `{row['trial']}`, `{metric}`: {note}"
        for row in rows
        for metric, note in row["notes"].items()
    )
    return [*lines, "", *notes, *([""] if notes else [])]


def differences(rows: Rows, metrics: Sequence[str]) -> list[str]:
    """Markdown: the least readable difference of each metric, and the pairs that exceed it."""
    if not any(least_difference(rows, metric) for metric in metrics):
        return [
            "No trial has two seeds, so the scatter over seeds is not known: no difference in "
            "this table can be told from chance."
        ]
    lines = [
        "| Metric | Standard deviation over seeds | Degrees of freedom | Least difference | "
        "Pairs that differ by more |",
        "|---" * 5 + "|",
    ]
    for metric in metrics:
        found = least_difference(rows, metric)
        name = f"`{metric}` ({BEST[better(metric)]})"
        lines.append(
            f"| {name} | {found.deviation:.3g} | {found.freedom} | {found.least:.3g} | "
            f"{'; '.join(differing(rows, metric)) or 'none'} |"
            if found
            else f"| {name} | no trial has two values | 0 | - | not known |"
        )
    return [
        *lines,
        "",
        "The deviation is pooled over the trials, as if all scattered alike. The least "
        f"difference of two means that can be read is the two-sided {CONFIDENCE:.0%} t "
        "quantile x deviation x sqrt(2 / seeds). It holds for one pair that was named "
        "beforehand; of many pairs some exceed it by chance.",
    ]


def page(rows: Rows, metrics: Sequence[str], minutes: float, problems: Sequence[str]) -> str:
    """The whole page in Markdown."""
    asked = {row["trial"]: " ".join([row["recipe"], *row["settings"]]) for row in rows}
    lost = sum(row["cpu_minutes_lost"] for row in rows)
    return "\n".join(
        [
            TITLE,
            "",
            f"Made by `python -m benchmarks.recipe_trials`. Each run was given {minutes:g} minutes of "
            "processor time, one thread on a CPU. kimg and minutes: mean over seeds, with the least "
            "and the greatest where they differ. Scores: mean +- standard deviation over seeds.",
            "",
            *(f"- `{name}`: `{text}`" for name, text in asked.items()),
            "",
            *table(rows, metrics),
            *(
                [f"Killed processes lost {lost:.1f} processor minutes, which are not counted.", ""]
                if lost >= 0.05
                else []
            ),
            *differences(rows, metrics),
            *(f"\nNot finished: {problem}" for problem in problems),
            "",
        ]
    )


@click.command()
@click.option(
    "--outdir",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run folders NAME-seedN and their records go there.",
)
@click.option(
    "--trial",
    "trials",
    multiple=True,
    required=True,
    metavar="'NAME=RECIPE A.B=VALUE'",
    help="A recipe with fields of its config set, under a name; may be repeated.",
)
@click.option("--data", required=True, metavar="ZIP")
@click.option("--seeds", default="0-2", show_default=True, metavar="LIST")
@click.option(
    "--cpu-minutes",
    "minutes",
    required=True,
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    help="Processor time of each run.",
)
@click.option("--metrics", default=METRICS, show_default=True, help="See calc_metrics.py list.")
@click.option(
    "--num-images",
    "num",
    type=click.IntRange(min=2),
    help="Generated pictures a protocol.  [default: the protocol's own]",
)
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Trainings at a time; give no more than there are idle cores.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write the record there, and the page to FILE.md.",
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
    """Train trials x seeds for equal processor minutes, and tabulate their scores."""
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
        raise UserError("--trial: two trials have the same name; give each one its own")
    numbers = parse_seeds(seeds)
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--seeds {seeds}: name each seed once")
    runs = [TrialRun(trial, seed, minutes, data, outdir) for seed in numbers for trial in chosen]
    for trial in chosen:
        trial.config()
    names = check_metrics(metrics, data)
    make_folder(outdir)
    with locked(outdir):
        for run in runs:
            run.open()
        for trial in chosen:
            trial.prepare(data, outdir)
        problems = train_all(runs, jobs)
        rows = [scored(run, data, names, num) for run in runs if run.done]
    if rows:
        write_results(path, page(rows, names, minutes, problems), rows, names, arguments)
    if problems:
        raise UserError("; ".join(problems))


def write_results(
    path: Path | None, text: str, rows: Rows, metrics: Sequence[str], arguments: dict[str, Any]
) -> None:
    """Print the page; write it and the record where `path` is given."""
    click.echo(text)
    if not path:
        return
    least = {
        metric: found
        and {
            "deviation": found.deviation,
            "freedom": found.freedom,
            "seeds": found.seeds,
            "least": found.least,
        }
        for metric in metrics
        for found in [least_difference(rows, metric)]
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
