"""Run folders as data for `benchmarks.comparison`: what each was asked, its curve, its scores, and what it changed of its recipe.

Scores are kept in each folder (comparison.jsonl) and used again only for the same snapshot, evaluation, version of the table and data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import torch

from configs import RECIPES, recipe
from datasets.text_image import TextImageDataset
from dnnlib.config_codec import leaves, to_dict
from dnnlib.errors import UserError
from dnnlib.files import append_json_line, read_json, read_json_lines
from metrics.evaluations import PROTOCOLS_VERSION, evaluations_named
from metrics.runner import evaluate, load_subject
from networks.snapshot import Snapshot
from networks.text_encoders import encoder_widths

# What all runs must share, whatever their recipes say.
SETTINGS = (
    "kimg",
    "batch",
    "augment.mode",
    "mirror",
    "text.noise",
    "lr_decay",
    "ema.half_life_kimg",
    "ema.rampup",
    "precision",
    "text_encoder",
    "metric_num",
)
# What a run may be asked otherwise without being another training.
FREE = ("data", "seed", "device", "ops", "workers", "report_to", "text_cache")


@dataclass(frozen=True)
class Run:
    """A finished run: its curve of one metric as (kimg, value), its records by evaluation, its options by dotted name without `FREE`."""

    folder: Path
    recipe: str
    seed: int
    images: int
    hours: float
    dataset_hash: str
    reads_text: bool
    curve: list[tuple[float, float]]
    scores: dict[str, dict[str, Any]]
    options: dict[str, Any]


def read_run(
    folder: Path, data: str, metrics: list[str], num: int | None, curve: str, device: torch.device
) -> Run:
    """Read a run and score its newest snapshot where that is not done yet. Raises `UserError`."""
    options, ticks = (
        read_json(folder / "training_options.json"),
        read_json_lines(folder / "stats.jsonl"),
    )
    if not ticks:
        raise UserError(f"{folder}: no stats.jsonl with ticks; it has not trained yet")
    snapshot = Snapshot.from_pretrained(folder)
    if round(snapshot.info["kimg"] * 1000) != ticks[-1]["images"]:
        raise UserError(
            f"{folder}: its newest snapshot is of {snapshot.info['kimg']} kimg, its log ends at {ticks[-1]['kimg']}; finish the run"
        )
    content_hash = TextImageDataset(data, split="test").content_hash
    if snapshot.info["dataset_hash"] != content_hash:
        raise UserError(
            f"{folder} was trained on other data than --data {data} ({snapshot.info['dataset_hash'][:12]}, not {content_hash[:12]}); "
            "give the data set of the runs, or leave this run out"
        )
    points = [
        (record["images"] / 1000, record["value"])
        for record in read_json_lines(folder / f"metric-{curve}.jsonl")
        if record["value"] is not None
    ]
    config: Any = snapshot.generator.config
    return Run(
        folder,
        options["recipe"],
        options["seed"],
        ticks[-1]["images"],
        ticks[-1]["elapsed_s"] / 3600,
        content_hash,
        bool(config.sentence_dim or config.word_dim),
        points,
        scores_of(folder, snapshot.sha256, data, content_hash, metrics, num, device),
        settled(options),
    )


def scores_of(
    folder: Path,
    sha256: str,
    data: str,
    content_hash: str,
    metrics: list[str],
    num: int | None,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """Records by evaluation, of comparison.jsonl where they are of this snapshot, data and evaluation; what is missing is computed."""
    path = folder / "comparison.jsonl"
    asked = {row.name: row.with_overrides(num=num).record() for row in evaluations_named(metrics)}

    def known() -> dict[str, dict[str, Any]]:
        return {
            record["metric"]: record
            for record in read_json_lines(path)
            if record["snapshot_sha256"] == sha256
            and record["dataset"]["content_hash"] == content_hash
            and record["versions"]["protocols"] == PROTOCOLS_VERSION
            and record["protocol"] == asked.get(record["metric"])
        }

    missing = [name for name in asked if name not in known()]
    if missing:
        click.echo(f"{folder}: {', '.join(missing)}", err=True)
        for record in evaluate(
            load_subject(folder, device),
            data,
            evaluations_named(missing),
            num=num,
            device=device,
            cache_dir=Path(data).parent / ".cache",
        ):
            append_json_line(path, record)
    return known()


def settled(options: dict[str, Any]) -> dict[str, Any]:
    """Options by dotted name, without `FREE`."""
    return {
        name: value for name, value in leaves(options).items() if name.split(".")[0] not in FREE
    }


@cache
def recipe_options(name: str, text_encoder: str) -> dict[str, Any]:
    """What a recipe asks today with that encoder's widths, without `FREE`."""
    return settled(to_dict(recipe(name).for_encoder(*encoder_widths(text_encoder))))


def changes(run: Run) -> dict[str, Any] | None:
    """What the run was asked otherwise than its recipe says today, by dotted name; None where there is no such recipe any more."""
    if run.recipe not in RECIPES:
        return None
    own = recipe_options(run.recipe, run.options["text_encoder"])
    return {
        name: value for name, value in run.options.items() if name not in own or own[name] != value
    }


def check_comparable(runs: list[Run]) -> None:
    """Raises `UserError` where two runs differ in data, images seen, settings or the measure of their scores, or seeds in any option."""
    first = runs[0]
    for run in runs[1:]:
        if run.dataset_hash != first.dataset_hash:
            raise UserError(
                f"{run.folder} was trained on other data than {first.folder}; compare runs of one data set"
            )
        if run.images != first.images:
            raise UserError(
                f"{run.folder} has seen {run.images} images, {first.folder} {first.images}; train all to the same --kimg"
            )
        _check_options(run, first, SETTINGS, "train all alike")
        for name, record in run.scores.items():
            if any(
                record[field] != first.scores[name][field] for field in ("protocol", "detector")
            ):
                raise UserError(
                    f"{run.folder}: {name} was measured otherwise than in {first.folder}; delete its comparison.jsonl"
                )
    for index, run in enumerate(runs):
        for other in runs[:index]:
            if run.recipe == other.recipe:
                if run.seed == other.seed:
                    raise UserError(
                        f"{run.folder}: {other.folder} holds the same recipe and seed {run.seed}"
                    )
                _check_options(
                    run,
                    other,
                    sorted(run.options.keys() | other.options.keys()),
                    "train the seeds of a recipe alike",
                )


def _check_options(run: Run, other: Run, names: tuple[str, ...] | list[str], remedy: str) -> None:
    for name in names:
        mine, theirs = (each.options.get(name, "(not set)") for each in (run, other))
        if mine != theirs:
            raise UserError(
                f"{run.folder} was trained with {name} {mine}, {other.folder} with {theirs}; {remedy}"
            )


def by_recipe(runs: list[Run]) -> dict[str, list[Run]]:
    """Runs by recipe and seed, both in order."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.recipe, run.seed)):
        groups.setdefault(run.recipe, []).append(run)
    return groups
