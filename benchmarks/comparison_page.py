"""What docs/comparison.md says of runs that may be compared: table, notes, reference values, ranking with its least readable difference.

A metric is ranked by the mean over seeds. The scatter of seeds is pooled over recipes, for two seeds alone tell next to nothing of it.
"""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t as student

from benchmarks.comparison_scores import SETTINGS, Run, changes
from metrics.evaluations import EVALUATIONS, PROTOCOLS_VERSION, badness, better
from metrics.measures.scale_consistency import ScaleConsistency
from networks.coordinates import View
from networks.describe import describe
from networks.snapshot import Snapshot

Groups = dict[str, list[Run]]
CONFIDENCE = 0.95
WIDTH = 100
TITLE = "# Systems side by side"
# What a record holds beside its value to hold it against.
BESIDE = {
    "real": "the real pictures of the same captions",
    "chance": "guessing",
    "shuffled": "the same pictures with other pictures' captions",
    "bicubic": "each picture enlarged bicubically in place of the large render, a ceiling",
    "enlarged": "renders at S enlarged bicubically",
}


@dataclass(frozen=True)
class Scatter:
    """Of one metric over seeds: pooled standard deviation, its degrees of freedom, and the least readable difference of means of `seeds`."""

    deviation: float
    freedom: int
    seeds: int

    @property
    def least(self) -> float:
        """t quantile (two-sided) x deviation x sqrt(2 / seeds)."""
        return (
            float(student.ppf((1 + CONFIDENCE) / 2, self.freedom))
            * self.deviation
            * math.sqrt(2 / self.seeds)
        )


def scatter(samples: Iterable[list[float]], seeds: int) -> Scatter | None:
    """Pooled over samples of two values or more (of equal size: the mean of their variances); None without one."""
    repeated = [sample for sample in samples if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in repeated)
    if not freedom:
        return None
    squares = sum((len(sample) - 1) * statistics.variance(sample) for sample in repeated)
    return Scatter(math.sqrt(squares / freedom), freedom, seeds)


def spread(values: Sequence[float | None]) -> str:
    """'mean (least to greatest; known of all seeds)': the range where values differ, the count where some seed has none."""
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    facts = [f"{min(known):.4g} to {max(known):.4g}"] if min(known) < max(known) else []
    facts += [f"{len(known)} of {len(values)} seeds"] if len(known) < len(values) else []
    return f"{statistics.mean(known):.4g}" + (f" ({'; '.join(facts)})" if facts else "")


def values_of(runs: list[Run], metric: str) -> list[float | None]:
    return [run.scores[metric]["value"] for run in runs]


def applies(metric: str, runs: list[Run]) -> bool:
    """Whether the metric says anything of this system: how well pictures fit a text that was not read, it does not."""
    return runs[0].reads_text or not EVALUATIONS[metric].measure.needs_captions


def notes(groups: Groups, metrics: list[str]) -> dict[tuple[str, str, str], list[int]]:
    """Seeds without a value by (recipe, metric, what the record says about it), in the order of the table."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for name, runs in groups.items():
        for metric in metrics:
            for run in runs if applies(metric, runs) else ():
                if run.scores[metric]["value"] is None:
                    found.setdefault(
                        (
                            name,
                            metric,
                            run.scores[metric].get("note", "the record gives no reason"),
                        ),
                        [],
                    ).append(run.seed)
    return found


def score_table(groups: Groups, metrics: list[str]) -> list[str]:
    """One row a recipe, and below it why values are missing."""
    lines = [
        "| Recipe | Seeds | G, M | GMAC | "
        + " | ".join(f"`{name}`" for name in metrics)
        + " | Hours |",
        "|---|---|---|---|" + "---|" * (len(metrics) + 1),
    ]
    numbered = list(notes(groups, metrics).items())
    for name, runs in groups.items():
        snapshot = Snapshot.from_pretrained(runs[0].folder)
        config: Any = snapshot.generator.config
        counts = describe(config, View.square(snapshot.resolution))
        cells = []
        for metric in metrics:
            marks = "".join(
                f" [{number}]"
                for number, (key, _) in enumerate(numbered, start=1)
                if key[:2] == (name, metric)
            )
            cells.append(
                spread(values_of(runs, metric)) + marks if applies(metric, runs) else "no text"
            )
        lines.append(
            f"| `{name}` | {', '.join(str(run.seed) for run in runs)} | {counts['params'] / 1e6:.2f} | {counts['macs'] / 1e9:.2f} | "
            + " | ".join(cells)
            + f" | {spread([run.hours for run in runs])} |"
        )
    for number, ((name, metric, note), seeds) in enumerate(numbered, start=1):
        lines += ["", f"[{number}] `{name}`, seed {', '.join(map(str, seeds))}, `{metric}`: {note}"]
    return lines


def ranking(groups: Groups, metrics: list[str]) -> list[str]:
    """One line a metric: the best mean, the recipes that are not told apart from it, the rest; below, the scatter that decides it."""
    lines, known = [], False
    table = [
        "| Metric | Standard deviation over seeds | Degrees of freedom | Seeds | Least difference |",
        "|---|---|---|---|---|",
    ]
    for metric in metrics:
        values = {
            name: values_of(runs, metric) for name, runs in groups.items() if applies(metric, runs)
        }
        known_values = {
            name: [value for value in sample if value is not None]
            for name, sample in values.items()
        }
        means = {
            name: statistics.mean(known_values[name])
            for name, sample in values.items()
            if None not in sample
        }
        order = sorted(means, key=lambda name: badness(metric, means[name]))
        # The fewest seeds of a ranked recipe: where numbers differ, the least difference is rather too large.
        found = scatter(
            known_values.values(), min((len(values[name]) for name in order), default=1)
        )
        near = (
            1 + sum(abs(means[name] - means[order[0]]) <= found.least for name in order[1:])
            if found and order
            else 1
        )
        say = [f"{name} {means[name]:.4g}" for name in order]
        parts = (
            [", ".join(say)]
            if near == 1
            else [say[0], "not told apart from the best: " + ", ".join(say[1:near])]
        )
        parts += ["then " + ", ".join(say[near:])] if 1 < near < len(say) else []
        missing = [name for name in values if name not in means]
        where = {"low": "less is better", "high": "more is better", "one": "1 is best"}
        lines.append(
            f"- `{metric}` ({where[better(metric)]}): "
            + ("; ".join(parts) or "nothing measured")
            + (f". Not ranked, a seed has no value: {', '.join(missing)}" if missing else "")
        )
        table.append(
            f"| `{metric}` | {found.deviation:.3g} | {found.freedom} | {found.seeds} | {found.least:.3g} |"
            if found
            else f"| `{metric}` | no recipe has two values | 0 | - | - |"
        )
        known = known or bool(found)
    if not known:
        return [
            *lines,
            "",
            "No recipe has two seeds, and one seed tells nothing about the spread over seeds: differences here may be chance.",
        ]
    return [
        *lines,
        "",
        *table,
        "",
        "The standard deviation is pooled over the recipes with two values or more, as if all scattered alike. Least "
        f"difference of two means that is worth reading: the two-sided {CONFIDENCE:.0%} t quantile x deviation x sqrt(2 / seeds). It holds for "
        "one pair that was named beforehand; of the many pairs here some exceed it by chance.",
    ]


def references(groups: Groups, metrics: list[str], curve: str) -> list[str]:
    """What to hold the table against: untrained networks, and what the records hold beside their values (`BESIDE`)."""
    starts = [
        value
        for runs in groups.values()
        if applies(curve, runs)
        for run in runs
        for kimg, value in run.curve
        if kimg == 0
    ]
    lines = (
        [
            f"- `{curve}` of the untrained networks ({len(starts)} runs, pictures as in the curves below): {spread(starts)}"
        ]
        if starts
        else []
    )
    for metric in metrics:
        records = [
            run.scores[metric] for runs in groups.values() if applies(metric, runs) for run in runs
        ]
        found: dict[str, list[float]] = {}
        for record in records:
            beside = record | {"bicubic": (record.get("psnr") or {}).get("bicubic")}
            for name in BESIDE:
                if record["value"] is not None and beside.get(name) is not None:
                    found.setdefault(name, []).append(beside[name])
        if found:
            lines.append(
                f"- `{metric}`: "
                + "; ".join(f"{BESIDE[name]} {spread(values)}" for name, values in found.items())
            )
    return (
        ["Beside these, mean over the runs with the least and the greatest:", "", *lines]
        if lines
        else []
    )


def asked(groups: Groups) -> str:
    """What all runs shared, and what was asked otherwise than the recipes say: of all, and of each alone."""
    runs = [runs[0] for runs in groups.values()]
    changed = {run.recipe: changes(run) for run in runs}
    own = {name: found for name, found in changed.items() if found is not None}
    common = {
        key: value
        for key, value in next(iter(own.values()), {}).items()
        if all(key in found and found[key] == value for found in own.values())
    }
    pieces = [
        "All trained with " + _listed({name: runs[0].options[name] for name in SETTINGS}) + "."
    ]
    if own:
        pieces.append(f"Changed from the recipes for all: {_listed(common) or 'nothing'}.")
    for name, found in own.items():
        if alone := {key: value for key, value in found.items() if key not in common}:
            pieces.append(f"For `{name}` alone: {_listed(alone)}.")
    if unknown := [name for name, found in changed.items() if found is None]:
        pieces.append(
            f"No recipes of this version, so not held against one: {', '.join(f'`{name}`' for name in unknown)}."
        )
    pieces.append(
        "Discriminators, losses and optimisers differ between recipes where [configs](configs.md) says so: a row is a system, not a "
        "generator alone."
    )
    return " ".join(pieces)


def _listed(options: dict[str, Any]) -> str:
    return ", ".join(
        f"`{name}` {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in options.items()
    )


def cautions(groups: Groups, metrics: list[str]) -> list[str]:
    """What a reader must know of these columns."""
    runs = [run for group in groups.values() for run in group]
    lines = [
        'A cell is the mean over seeds, with the least and the greatest beside it. "none": no seed has a value, and the note says '
        'why. "no text": the system reads none, so it is left out of that metric. Hours are of one training among several on '
        "a shared machine: they tell what it cost, not which is faster."
    ]
    for metric in metrics:
        if any(run.scores[metric].get("teacher") for run in runs):
            lines.append(
                f"`{metric}` is scored by the encoder that the networks were trained with, so it flatters those that lean on it."
            )
        if isinstance(EVALUATIONS[metric].measure, ScaleConsistency):
            lines.append(
                f"`{metric}` favours blur: a smooth picture agrees with itself at any size."
            )
    return lines


def page(
    groups: Groups, metrics: list[str], curve: str, prompts: list[str], pictures: str, note: str
) -> str:
    """The whole page. groups: recipes in order; prompts: of the picture grid; pictures: folder of the two figures, as seen from the page."""
    runs = [run for group in groups.values() for run in group]
    dataset = runs[0].scores[metrics[0]]["dataset"]
    counts = ", ".join(
        f"{runs[0].scores[metric]['num_generated']} for `{metric}`" for metric in metrics
    )
    pieces = [
        TITLE,
        "",
        f"Made by `python -m benchmarks.comparison` from {len(runs)} run folders. All saw {runs[0].images:,} images of {dataset['name']} "
        f"(`{dataset['content_hash'][:12]}`) in the same loop; all are scored by the same evaluations, version {PROTOCOLS_VERSION} "
        f"([evaluation](evaluation.md)). Generated pictures: {counts}.",
        "",
        asked(groups),
        "",
        *([note, ""] if note else []),
        *score_table(groups, metrics),
        "",
        " ".join(cautions(groups, metrics)),
        "",
        *references(groups, metrics, curve),
        "",
        "## From best to worst",
        "",
        *ranking(groups, metrics),
        "",
        "## Learning curves",
        "",
        f"![`{curve}` over kimg]({pictures}/comparison-curves.svg)",
        "",
        f"A point is made of at most {runs[0].options['metric_num']} pictures (`metric_num`), the table of the numbers above: do not read one "
        "against the other. Points without a value are left out.",
        "",
        "## Pictures",
        "",
        f"![Sample grids]({pictures}/comparison.png)",
        "",
        "Rows: real pictures, then "
        + ", ".join(f"`{name}`" for name in groups)
        + " (first seed). A column has one prompt and one seed of the "
        "latent, not one latent: its shape differs between systems. Prompts: "
        + "; ".join(f'"{prompt}"' for prompt in prompts)
        + ".",
        "",
    ]
    return "\n".join(map(_wrapped, pieces))


def _wrapped(line: str) -> str:
    """A line of prose in lines of at most `WIDTH` characters; rows of tables stay whole."""
    if line.startswith("|"):
        return line
    return textwrap.fill(
        line,
        WIDTH,
        subsequent_indent="  " if line.startswith("- ") else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
