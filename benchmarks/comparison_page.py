"""The text of docs/comparison.md: score table, notes, reference values and ranking of runs.

Recipes are ranked by the mean over seeds of each metric. The standard deviation over seeds is
pooled over the recipes, because two seeds of one recipe hardly determine it.
"""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from scipy.stats import t as student

from benchmarks.comparison_scores import SETTINGS, Run, changes
from metrics.evaluations import EVALUATIONS, PROTOCOLS_VERSION, badness, better
from metrics.measures.equivariance import Equivariance
from metrics.measures.scale_consistency import ScaleConsistency
from networks.coordinates import View
from networks.describe import describe
from networks.snapshot import Snapshot

Groups = dict[str, list[Run]]
CONFIDENCE = 0.95
WIDTH = 100
TITLE = "# Systems side by side"
# Reference values that a record may hold, by key, with their description.
REFERENCE_VALUES = {
    "real": "the real pictures of the same captions",
    "chance": "guessing",
    "shuffled": "the same pictures with other pictures' captions",
    "bicubic": "each picture enlarged bicubically in place of the large render, a ceiling",
    "enlarged": "renders at S enlarged bicubically",
}


@dataclass(frozen=True)
class Scatter:
    """The scatter of one metric over seeds.

    deviation: pooled standard deviation. freedom: its degrees of freedom. seeds: number of seeds of
    the means that are compared.
    """

    deviation: float
    freedom: int
    seeds: int

    @property
    def least(self) -> float:
        """The least significant difference of two means.

        It is t x deviation x sqrt(2 / seeds), with the two-sided t quantile at `CONFIDENCE`.
        """
        quantile = float(student.ppf((1 + CONFIDENCE) / 2, self.freedom))
        return quantile * self.deviation * math.sqrt(2 / self.seeds)


def scatter(samples: Iterable[list[float]], seeds: int) -> Scatter | None:
    """The scatter pooled over all samples with at least two values; None without such a sample.

    samples: the values of each recipe. For samples of equal size, the pooled variance is the mean
    of their variances.
    """
    repeated = [sample for sample in samples if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in repeated)
    if not freedom:
        return None
    squares = sum((len(sample) - 1) * statistics.variance(sample) for sample in repeated)
    return Scatter(math.sqrt(squares / freedom), freedom, seeds)


def spread(values: Sequence[float | None]) -> str:
    """'mean (least to greatest; N of M seeds)', or 'none' without a value.

    The range is left out if all values are equal, the count if no value is None.
    """
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    facts = [f"{min(known):.4g} to {max(known):.4g}"] if min(known) < max(known) else []
    facts += [f"{len(known)} of {len(values)} seeds"] if len(known) < len(values) else []
    return f"{statistics.mean(known):.4g}" + (f" ({'; '.join(facts)})" if facts else "")


def values_of(runs: list[Run], metric: str) -> list[float | None]:
    return [run.scores[metric]["value"] for run in runs]


def applies(metric: str, runs: list[Run]) -> bool:
    """Whether the metric applies to the system: text metrics need a network that reads text."""
    return runs[0].reads_text or not EVALUATIONS[metric].measure.needs_captions


def notes(groups: Groups, metrics: list[str]) -> dict[tuple[str, str, str], list[int]]:
    """The seeds without a value, by (recipe, metric, the record's note), in the table's order."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for name, runs in groups.items():
        for metric in metrics:
            for run in runs if applies(metric, runs) else ():
                record = run.scores[metric]
                if record["value"] is None:
                    note = record.get("note", "the record gives no reason")
                    seeds.setdefault((name, metric, note), []).append(run.seed)
    return seeds


def score_table(groups: Groups, metrics: list[str]) -> list[str]:
    """The score table with one row for each recipe, and notes on missing values below it."""
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
            cells.append(_cell(runs, metric) + marks if applies(metric, runs) else "no text")
        seeds = ", ".join(str(run.seed) for run in runs)
        size = f"{counts['params'] / 1e6:.2f} | {counts['macs'] / 1e9:.2f}"
        hours = spread([run.hours for run in runs])
        lines.append(f"| `{name}` | {seeds} | {size} | {' | '.join(cells)} | {hours} |")
    for number, ((name, metric, note), missing) in enumerate(numbered, start=1):
        seeds = ", ".join(map(str, missing))
        lines += ["", f"[{number}] `{name}`, seed {seeds}, `{metric}`: {note}"]
    return lines


def _cell(runs: list[Run], metric: str) -> str:
    """The spread of a metric over the runs of a recipe; of precision and recall, that of both."""
    recall = [run.scores[metric].get("recall") for run in runs]
    also = "" if None in recall else f"; recall {spread(recall)}"
    return spread(values_of(runs, metric)) + also


def differences(groups: Groups, metrics: list[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A table of the differences A - B of the means of recipes, with confidence intervals.

    The interval is that of `Scatter.least`, with the number of seeds of each of the two recipes.
    """
    lines = ["| A - B | " + " | ".join(f"`{name}`" for name in metrics) + " |"]
    lines.append("|---|" + "---|" * len(metrics))
    for first, second in pairs:
        cells = []
        for metric in metrics:
            samples = {name: values_of(runs, metric) for name, runs in groups.items()}
            known = [[v for v in sample if v is not None] for sample in samples.values()]
            a, b = samples[first], samples[second]
            pooled = scatter(known, 1)
            if pooled is None or None in (*a, *b):
                cells.append("-")
                continue
            means = [statistics.mean(cast(list[float], sample)) for sample in (a, b)]
            half = pooled.least * math.sqrt((1 / len(a) + 1 / len(b)) / 2)
            apart = abs(means[0] - means[1]) > half
            text = f"{means[0] - means[1]:+.3g} ± {half:.2g}"
            if metric == "kid_lite2" and means[1]:
                text += f" ({(means[0] / means[1] - 1):+.0%})"
            cells.append(f"**{text}**" if apart else text)
        lines.append(f"| `{first}` - `{second}` | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"After ± stands half the {CONFIDENCE:.0%} confidence interval of a difference. A "
        "difference in bold is larger. For `kid_lite2` the difference is also given as a share of "
        "B.",
    ]


def costs(groups: Groups, steps: Sequence[dict[str, Any]]) -> list[str]:
    """A table of the time of a training step, from the rows of `benchmarks.recipe_step`.

    The last column compares with the first recipe of the table.
    """
    by_recipe = {row["recipe"]: row for row in steps}
    rows = [by_recipe[name] for name in groups if name in by_recipe]
    if not rows:
        return []
    lines = ["| Recipe | ms an image | of the first |", "|---|---|---|"]
    lines += [
        f"| `{row['recipe']}` | {row['ms_per_image']:.3g} | "
        f"{row['ms_per_image'] / rows[0]['ms_per_image']:.2f} |"
        for row in rows
    ]
    return lines


def ranking(groups: Groups, metrics: list[str]) -> list[str]:
    """One line for each metric with the recipes from best to worst, and a table of the scatter.

    Recipes whose mean differs from the best one by less than the least significant difference are
    named as not told apart from it.
    """
    lines, known = [], False
    table = [
        "| Metric | Standard deviation over seeds | Degrees of freedom | Seeds | "
        "Least difference |",
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
        # Take the smallest number of seeds of a ranked recipe. If the numbers differ, the least
        # difference is then too large rather than too small.
        num_seeds = min((len(values[name]) for name in order), default=1)
        pooled = scatter(known_values.values(), num_seeds)
        num_near = 1
        if pooled and order:
            best = means[order[0]]
            num_near += sum(abs(means[name] - best) <= pooled.least for name in order[1:])
        shown = [f"{name} {means[name]:.4g}" for name in order]
        parts = (
            [", ".join(shown)]
            if num_near == 1
            else [shown[0], "not told apart from the best: " + ", ".join(shown[1:num_near])]
        )
        parts += ["then " + ", ".join(shown[num_near:])] if 1 < num_near < len(shown) else []
        missing = [name for name in values if name not in means]
        direction = {"low": "less is better", "high": "more is better", "one": "1 is best"}
        lines.append(
            f"- `{metric}` ({direction[better(metric)]}): "
            + ("; ".join(parts) or "nothing measured")
            + (f". Not ranked, a seed has no value: {', '.join(missing)}" if missing else "")
        )
        table.append(
            f"| `{metric}` | {pooled.deviation:.3g} | {pooled.freedom} | {pooled.seeds} | "
            f"{pooled.least:.3g} |"
            if pooled
            else f"| `{metric}` | no recipe has two values | 0 | - | - |"
        )
        known = known or bool(pooled)
    if not known:
        return [
            *lines,
            "",
            "No recipe has two seeds, so the spread over seeds is not known: differences here may "
            "be chance.",
        ]
    return [
        *lines,
        "",
        *table,
        "",
        "The standard deviation is pooled over the recipes with at least two values; this assumes "
        "that all recipes scatter alike. The least difference of two means is the two-sided "
        f"{CONFIDENCE:.0%} t quantile x deviation x sqrt(2 / seeds). It holds for one pair that is "
        "chosen before the comparison; of the many pairs here, some exceed it by chance.",
    ]


def references(groups: Groups, metrics: list[str], curve: str) -> list[str]:
    """Values to compare the table with: those of untrained networks, and `REFERENCE_VALUES`."""
    starts = [
        value
        for runs in groups.values()
        if applies(curve, runs)
        for run in runs
        for kimg, value in run.curve
        if kimg == 0
    ]
    lines = []
    if starts:
        lines.append(
            f"- `{curve}` of the untrained networks ({len(starts)} runs, pictures as in the curves "
            f"below): {spread(starts)}"
        )
    for metric in metrics:
        records = [
            run.scores[metric] for runs in groups.values() if applies(metric, runs) for run in runs
        ]
        known: dict[str, list[float]] = {}
        for record in records:
            entries = record | {"bicubic": (record.get("psnr") or {}).get("bicubic")}
            for name in REFERENCE_VALUES:
                if record["value"] is not None and entries.get(name) is not None:
                    known.setdefault(name, []).append(entries[name])
        if known:
            parts = [f"{REFERENCE_VALUES[name]} {spread(values)}" for name, values in known.items()]
            lines.append(f"- `{metric}`: {'; '.join(parts)}")
    if not lines:
        return []
    return ["For comparison, the mean over the runs (least to greatest):", "", *lines]


def training_settings(groups: Groups) -> str:
    """The settings that all runs share, and the fields in which runs differ from their recipes."""
    runs = [runs[0] for runs in groups.values()]
    changed = {run.recipe: changes(run) for run in runs}
    known = {name: fields for name, fields in changed.items() if fields is not None}
    common = {
        key: value
        for key, value in next(iter(known.values()), {}).items()
        if all(key in fields and fields[key] == value for fields in known.values())
    }
    settings = {name: runs[0].options[name] for name in SETTINGS}
    pieces = [f"All trained with {_listed(settings)}."]
    if known:
        pieces.append(f"Changed from the recipes for all: {_listed(common) or 'nothing'}.")
    for name, fields in known.items():
        if special := {key: value for key, value in fields.items() if key not in common}:
            pieces.append(f"For `{name}` alone: {_listed(special)}.")
    if unknown := [f"`{name}`" for name, fields in changed.items() if fields is None]:
        pieces.append(
            "Not compared with a recipe, because this version has none of that name: "
            f"{', '.join(unknown)}."
        )
    parts = ("discriminator.", "loss.", "optimizer_")
    shared = all(
        run.options.get(key) == runs[0].options.get(key)
        for run in runs
        for key in run.options.keys() | runs[0].options.keys()
        if key.startswith(parts)
    )
    pieces.append(
        "Discriminator, losses and optimisers are the same for all: nothing but the generator "
        "differs."
        if shared
        else "Discriminators, losses and optimisers differ between recipes where "
        "[configs](configs.md) says so: a row is a system, not a generator alone."
    )
    return " ".join(pieces)


def _listed(options: dict[str, Any]) -> str:
    return ", ".join(
        f"`{name}` {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in options.items()
    )


def cautions(groups: Groups, metrics: list[str]) -> list[str]:
    """Explanations of the table's columns."""
    runs = [run for group in groups.values() for run in group]
    lines = [
        "A cell is the mean over seeds (least to greatest). "
        '"none": no seed has a value, and the note says why. "no text": the system reads no text, '
        "so the metric does not apply. Hours are elapsed times on a shared machine with several "
        "trainings at once: they show the cost, not which system is faster."
    ]
    for metric in metrics:
        if any(run.scores[metric].get("teacher") for run in runs):
            lines.append(
                f"`{metric}` uses the text encoder that the networks were trained with, so it "
                "favours networks that fit this encoder."
            )
        measure = EVALUATIONS[metric].measure
        if isinstance(measure, ScaleConsistency):
            lines.append(
                f"`{metric}` favours blur, because smooth pictures change little with the size."
            )
        if isinstance(measure, Equivariance) and measure.transformation != "translation":
            lines.append(
                f"`{metric}` favours blur, because smooth pictures survive the resampling."
            )
    return lines


def page(
    groups: Groups,
    metrics: list[str],
    curve: str,
    prompts: list[str],
    pictures: str,
    note: str,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    steps: Sequence[dict[str, Any]] = (),
    real: bool = True,
) -> str:
    """The whole page in Markdown.

    groups: runs by recipe, in order. curve: metric of the learning curves. prompts: those of the
    picture grid. pictures: folder of the two figures, relative to the page. note: a line on the
    runs, or ''. pairs: recipes for `differences`. steps: rows for `costs`. real: whether the grid
    begins with real pictures.
    """
    runs = [run for group in groups.values() for run in group]
    dataset = runs[0].scores[metrics[0]]["dataset"]
    counts = ", ".join(
        f"{runs[0].scores[metric]['num_generated']} for `{metric}`" for metric in metrics
    )
    pieces = [
        TITLE,
        "",
        f"Made by `python -m benchmarks.comparison` from {len(runs)} run folders. All saw "
        f"{runs[0].images:,} images of {dataset['name']} (`{dataset['content_hash'][:12]}`) in the "
        "same training loop; all are scored by the same evaluations, version "
        f"{PROTOCOLS_VERSION} ([evaluation](evaluation.md)). Generated pictures: {counts}.",
        "",
        training_settings(groups),
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
        *(["## Pairs", "", *differences(groups, metrics, pairs), ""] if pairs else []),
        *(["## Time of a training step", "", *costs(groups, steps), ""] if steps else []),
        *_curves(curve, pictures, runs),
        "## Pictures",
        "",
        f"![Sample grids]({pictures}/comparison.png)",
        "",
        f"Rows: {'real pictures, then ' if real else ''}"
        + ", ".join(f"`{name}`" for name in groups)
        + " (first seed). A column has one prompt and one latent seed. The latents of a column "
        "differ, because their shapes differ between systems. Prompts: "
        + "; ".join(f'"{prompt}"' for prompt in prompts)
        + ".",
        "",
    ]
    return "\n".join(map(_wrapped, pieces))


def _curves(curve: str, pictures: str, runs: Sequence[Run]) -> list[str]:
    """The section of the learning curves; nothing if no run has one."""
    if not any(run.curve for run in runs):
        return []
    return [
        "## Learning curves",
        "",
        f"![`{curve}` over kimg]({pictures}/comparison-curves.svg)",
        "",
        f"A point is computed from at most {runs[0].options['metric_num']} pictures "
        "(`metric_num`), the table from the numbers above, so the two cannot be compared. Points "
        "without a value are left out.",
        "",
    ]


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
