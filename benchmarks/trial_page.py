"""What `benchmarks.recipe_trials` writes about its runs: the scores, and what differs.

`docs/comparison.md` has the same text, from the records of `recipe_trials`.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.comparison_statistics import CONFIDENCE, Scatter, gain, scatter, spread
from metrics.evaluations import badness, better

BEST = {"low": "less is better", "high": "more is better", "one": "1 is best"}
Rows = Sequence[dict[str, Any]]  # one for each run, see `recipe_trials.scored`


def by_trial(rows: Rows, metric: str) -> dict[str, list[float]]:
    """The values of a metric that are not None, by trial, in the order of the rows."""
    values: dict[str, list[float]] = {}
    for row in rows:
        value = row["values"][metric]
        values.setdefault(row["trial"], []).extend([] if value is None else [value])
    return values


def least_difference(rows: Rows, metric: str) -> Scatter | None:
    """The pooled scatter (`comparison_page.scatter`) of all trials; None if none has two values.

    With k trials of n seeds, its least difference is t(0.975, k (n - 1)) x pooled deviation x
    sqrt(2 / n). If trials have different numbers of values, n is the smallest number.
    """
    samples = [sample for sample in by_trial(rows, metric).values() if sample]
    return scatter(samples, min(map(len, samples), default=1))


def differing(rows: Rows, metric: str) -> list[str]:
    """A line for each pair of trials whose gain is larger than the least difference."""
    pooled = least_difference(rows, metric)
    means = {
        name: statistics.mean(sample) for name, sample in by_trial(rows, metric).items() if sample
    }
    order = sorted(means, key=lambda name: badness(metric, means[name]))
    return [
        f"`{good}` is better than `{bad}` by {gain(metric, means[good], means[bad]):.3g}"
        for good, bad in itertools.combinations(order, 2)
        if pooled and gain(metric, means[good], means[bad]) > pooled.least
    ]


def cell(values: Sequence[float | None]) -> str:
    """'mean +- standard deviation over seeds', or 'mean (1 seed)' for one value.

    'N of M seeds' is added if some values are None; 'none' stands for no value at all.
    """
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    note = " (1 seed)" if len(known) == 1 else ""
    if len(known) < len(values):
        note = f" ({len(known)} of {len(values)} seeds)"
    deviation = f" +- {statistics.stdev(known):.2g}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.4g}{deviation}{note}"


def table(rows: Rows, metrics: Sequence[str]) -> list[str]:
    """The table of trials in Markdown, with a row for each trial."""
    lines = [
        "| Trial | Seeds | kimg | Processor minutes | "
        + " | ".join(f"`{name}`" for name in metrics)
        + " |",
        "|---" * (4 + len(metrics)) + "|",
    ]
    for name in dict.fromkeys(row["trial"] for row in rows):
        of_trial = [row for row in rows if row["trial"] == name]
        cells = [
            f"`{name}`",
            ", ".join(str(row["seed"]) for row in of_trial),
            *(spread([row[key] for row in of_trial]) for key in ("kimg", "cpu_minutes_used")),
            *(cell([row["values"][metric] for row in of_trial]) for metric in metrics),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    notes = dict.fromkeys(
        f"- `{row['trial']}`, `{metric}`: {note}"
        for row in rows
        for metric, note in row["notes"].items()
    )
    return [*lines, "", *notes, *([""] if notes else [])]


def differences(rows: Rows, metrics: Sequence[str]) -> list[str]:
    """A Markdown table with the least difference of each metric and the pairs that exceed it."""
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
        pooled = least_difference(rows, metric)
        name = f"`{metric}` ({BEST[better(metric)]})"
        lines.append(
            f"| {name} | {pooled.deviation:.3g} | {pooled.freedom} | {pooled.least:.3g} | "
            f"{'; '.join(differing(rows, metric)) or 'none'} |"
            if pooled
            else f"| {name} | no trial has two values | 0 | - | not known |"
        )
    return [
        *lines,
        "",
        "The deviation is pooled over the trials; this assumes that all trials scatter alike. The "
        f"least difference of two means is the two-sided {CONFIDENCE:.0%} t quantile x deviation x "
        "sqrt(2 / seeds). It holds for one pair that is chosen before the comparison; of many "
        "pairs, some exceed it by chance.",
    ]


def trial_scores(rows: Rows, metrics: Sequence[str]) -> list[str]:
    """The lines of Markdown about finished runs, with at least one row."""
    settings = {row["trial"]: " ".join([row["recipe"], *row["settings"]]) for row in rows}
    lost = sum(row["cpu_minutes_lost"] for row in rows)
    minutes = ", ".join(f"{given:g}" for given in sorted({row["cpu_minutes"] for row in rows}))
    return [
        f"Made by `python -m benchmarks.recipe_trials`. Each run was given {minutes} minutes of "
        "processor time, one thread on a CPU. kimg and minutes: mean over seeds (least to "
        "greatest). Scores: mean +- standard deviation over seeds.",
        "",
        *(f"- `{name}`: `{text}`" for name, text in settings.items()),
        "",
        *table(rows, metrics),
        *(
            [f"Killed processes lost {lost:.1f} processor minutes, which are not counted.", ""]
            if lost >= 0.05
            else []
        ),
        *differences(rows, metrics),
    ]
