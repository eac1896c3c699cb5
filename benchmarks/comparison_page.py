"""The text of docs/comparison.md: score table, notes, reference values and ranking of runs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from benchmarks.comparison_scores import SETTINGS, Run, changes
from benchmarks.comparison_statistics import (
    Groups,
    applies,
    differences,
    ranking,
    spread,
    values_of,
)
from benchmarks.trial_page import trial_scores
from dnnlib.errors import UserError
from metrics.evaluations import EVALUATIONS, PROTOCOLS_VERSION
from metrics.measures.equivariance import Equivariance
from metrics.measures.scale_consistency import ScaleConsistency
from networks.coordinates import View
from networks.describe import describe
from networks.snapshot import Snapshot

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


def costs(groups: Groups, record: dict[str, Any]) -> list[str]:
    """A table of the time of a training step, from a record of `benchmarks.recipe_step`.

    Empty if the record has none of the recipes. Raises `UserError` if its rows differ in batch,
    dtype or variant.
    """
    rows = [row for row in record["rows"] if row["recipe"] in groups and "problem" not in row]
    if not rows:
        return []
    kinds = {(row["batch"], row["dtype"], row["variant"]) for row in rows}
    if len(kinds) > 1:
        raise UserError(
            "--costs: the record has several batches, dtypes or variants; make one with a single "
            "value of --batches, --dtypes and --variants"
        )
    [(batch, dtype, variant)] = kinds
    lines = ["| Recipe | ms an image | relative to the first row |", "|---|---|---|"]
    lines += [
        f"| `{row['recipe']}` | {row['ms_per_image']:.3g} | "
        f"{row['ms_per_image'] / rows[0]['ms_per_image']:.2f} |"
        for row in rows
    ]
    return [
        "## Time of a training step",
        "",
        f"Elapsed time, batch {batch}, {dtype}, variant `{variant}`, one process on "
        f"{record['machine']['device']} (`python -m benchmarks.recipe_step`):",
        "",
        *lines,
        "",
    ]


def equal_minutes(record: dict[str, Any]) -> list[str]:
    """The section of trials at equal processor time, from a record of `recipe_trials`."""
    rows = record["rows"]
    return [
        f"## Equal processor minutes: {rows[0]['cpu_minutes']:g} a run, {record['date']}",
        "",
        *trial_scores(rows, list(rows[0]["values"])),
        "",
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
    shared = all(
        run.options.get(key) == runs[0].options.get(key)
        for run in runs
        for key in run.options.keys() | runs[0].options.keys()
        if key != "recipe" and not key.startswith("generator.")
    )
    pieces.append(
        "All have the same discriminator, losses, optimisers and other settings: nothing but the "
        "generator differs."
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
    lines.append(
        "`eqt` and `zoom_x4` are at their limit of 100 dB for every system of coordinates, so they "
        "do not rank systems."
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
    steps: dict[str, Any] | None = None,
    equal_time: Sequence[dict[str, Any]] = (),
    real: bool = True,
) -> str:
    """The whole page in Markdown.

    groups: runs by recipe, in order. curve: metric of the learning curves. prompts: those of the
    picture grid. pictures: folder of the two figures, relative to the page. note: a line on the
    runs, or ''. pairs: recipes for `differences`. steps: record for `costs`. equal_time: records
    for `equal_minutes`. real: whether the grid begins with real pictures.
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
        *(costs(groups, steps) if steps else []),
        *(line for record in equal_time for line in equal_minutes(record)),
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
