"""Read run folders for `benchmarks.comparison`: options, learning curves, scores, changed fields.

Scores are kept in comparison.jsonl in each run folder. They are used again only for the same
snapshot, evaluation, version of the evaluations, detector and data set.
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
from metrics.evaluations import EVALUATIONS, PROTOCOLS_VERSION, evaluations_named
from metrics.features.detectors import detector_record, load_detector
from metrics.runner import evaluate, load_subject
from networks.snapshot import Snapshot
from networks.text_encoders import encoder_widths

# Fields of the config that must be equal in all runs, even if their recipes differ.
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
# Fields of the config that do not change what a run learns, but for the seed.
FREE = ("data", "seed", "device", "ops", "workers", "report_to", "text_cache")


@dataclass(frozen=True)
class Run:
    """A finished run.

    images: real images seen. hours: elapsed time of training. curve: (kimg, value) of one metric.
    scores: records by evaluation. options: fields of the config by dotted name, without `FREE`.
    """

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
    """Read a run, and compute the scores of its newest snapshot that do not exist yet.

    num: number of generated pictures; None takes the evaluation's. curve: metric of the learning
    curve. Raises `UserError` for an unfinished run and for a run of other data.
    """
    options = read_json(folder / "training_options.json")
    ticks = read_json_lines(folder / "stats.jsonl")
    if not ticks:
        raise UserError(f"{folder}: no stats.jsonl with ticks; it has not trained yet")
    snapshot = Snapshot.from_pretrained(folder)
    if round(snapshot.info["kimg"] * 1000) != ticks[-1]["images"]:
        raise UserError(
            f"{folder}: its newest snapshot is of {snapshot.info['kimg']} kimg, its log ends at "
            f"{ticks[-1]['kimg']}; finish the run"
        )
    content_hash = TextImageDataset(data, split="test").content_hash
    if snapshot.info["dataset_hash"] != content_hash:
        raise UserError(
            f"{folder} was trained on other data than --data {data} "
            f"({snapshot.info['dataset_hash'][:12]}, not {content_hash[:12]}); give the data set "
            "of the runs, or leave this run out"
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
    """Records by evaluation, from comparison.jsonl or computed now.

    A record of comparison.jsonl is used if its snapshot, data set, evaluation and detector are the
    given ones.
    """
    path = folder / "comparison.jsonl"
    wanted = {row.name: row.with_overrides(num=num).record() for row in evaluations_named(metrics)}

    def known() -> dict[str, dict[str, Any]]:
        return {
            record["metric"]: record
            for record in read_json_lines(path)
            if record["snapshot_sha256"] == sha256
            and record["dataset"]["content_hash"] == content_hash
            and record["versions"]["protocols"] == PROTOCOLS_VERSION
            and record["protocol"] == wanted.get(record["metric"])
            and record["detector"] == detector_of(record["metric"])
        }

    missing = [name for name in wanted if name not in known()]
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


def detector_of(metric: str) -> dict[str, str] | None:
    """The detector of an evaluation as scores of today name it; None if it has none."""
    name = EVALUATIONS[metric].measure.detector
    return None if name is None else _detector(name)


@cache
def _detector(name: str) -> dict[str, str]:
    return detector_record(load_detector(name, torch.device("cpu")))


def settled(options: dict[str, Any]) -> dict[str, Any]:
    """The options by dotted name, without `FREE`."""
    return {
        name: value for name, value in leaves(options).items() if name.split(".")[0] not in FREE
    }


@cache
def recipe_options(name: str, text_encoder: str) -> dict[str, Any]:
    """The options of a recipe of this version with the encoder's widths, without `FREE`."""
    return settled(to_dict(recipe(name).for_encoder(*encoder_widths(text_encoder))))


def changes(run: Run) -> dict[str, Any] | None:
    """The options of a run that differ from its recipe in this version, by dotted name.

    None if this version has no recipe of that name.
    """
    if run.recipe not in RECIPES:
        return None
    defaults = recipe_options(run.recipe, run.options["text_encoder"])
    return {
        name: value
        for name, value in run.options.items()
        if name not in defaults or defaults[name] != value
    }


def check_comparable(runs: list[Run]) -> None:
    """Raise `UserError` if runs cannot be compared.

    All runs must agree in data set, images seen, `SETTINGS`, evaluations and detectors. Runs of one
    recipe must agree in all options but the seed, and may not have the same seed.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.dataset_hash != first.dataset_hash:
            raise UserError(
                f"{run.folder} was trained on other data than {first.folder}; compare runs of one "
                "data set"
            )
        if run.images != first.images:
            raise UserError(
                f"{run.folder} has seen {run.images} images, {first.folder} {first.images}; train "
                "all to the same --kimg"
            )
        _check_options(run, first, SETTINGS, "train all alike")
        for name, record in run.scores.items():
            if any(
                record[field] != first.scores[name][field] for field in ("protocol", "detector")
            ):
                raise UserError(
                    f"{run.folder}: {name} was measured otherwise than in {first.folder}; delete "
                    "its comparison.jsonl"
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
        value, other_value = (each.options.get(name, "(not set)") for each in (run, other))
        if value != other_value:
            raise UserError(
                f"{run.folder} was trained with {name} {value}, {other.folder} with {other_value}; "
                f"{remedy}"
            )


def by_recipe(runs: list[Run]) -> dict[str, list[Run]]:
    """Runs by recipe, sorted by recipe and seed."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.recipe, run.seed)):
        groups.setdefault(run.recipe, []).append(run)
    return groups
