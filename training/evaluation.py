"""Metrics during training: which the data allow, and their values of the averaged generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets.shard_loader import ShardDataset
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from metrics.evaluations import evaluations_named, served
from metrics.measures.base import Evaluation
from metrics.pictures.generator_subject import GeneratorSubject
from metrics.pictures.sights import real_sight
from metrics.pictures.sources import Sources
from metrics.runner import evaluate
from training.config import TrainConfig
from training.trainer import Trainer


def served_metrics(
    config: TrainConfig, dataset: TextImageDataset | ShardDataset, asked: bool
) -> tuple[TrainConfig, list[str]]:
    """Remove the metrics that the data set does not allow -> (config, lines that name them).

    asked: whether the user chose the metrics. Then such a metric raises `UserError`.
    """
    evaluations = evaluations_named(config.metrics) if config.metrics else []
    if isinstance(dataset, ShardDataset) and evaluations:
        if asked:
            raise UserError(
                f"--metrics {', '.join(config.metrics)}: metrics compare with pictures of a zip or "
                "folder, not of shards; train with --metrics none, and score the snapshots with "
                "calc_metrics.py calc --data ZIP"
            )
        line = f"Left out {', '.join(config.metrics)}: --data {config.data} is a stream of shards"
        return replace(config, metrics=()), [line]
    kept, others = served(evaluations, dataset.splits, dataset.has_captions)
    lines = [
        f"{', '.join(names)}: --data {config.data} has no {lack}" for lack, names in others.items()
    ]
    unfit = {evaluation.name: _unfit_pictures(config, evaluation) for evaluation in kept}
    lines += [f"{name}: {reason}" for name, reason in unfit.items() if reason]
    if lines and asked:
        raise UserError(f"--metrics {lines[0]}, or train with --metrics none")
    metrics = tuple(name for name, reason in unfit.items() if not reason)
    return replace(config, metrics=metrics), [f"Left out {line}" for line in lines]


def _unfit_pictures(config: TrainConfig, evaluation: Evaluation) -> str | None:
    """Why an evaluation cannot compare with the pictures of `data`, with the remedy, or None.

    The pictures have the size of the recipe, unless it trains on patches.
    """
    measure, sights = evaluation.measure, {one.sight for one in evaluation.references}
    if measure.detector is None or measure.needs_captions:
        return None  # compares pictures with one another or with captions
    if not config.patches.side and sights == {"native"}:
        return None
    sources, num = _sources(config), evaluation.pictures.num_images
    try:
        for reference in evaluation.references:
            reals = sources.reals(reference, config.resolution)
            real_sight(reals.pictures, reference, config.resolution, num, reals.option)
    except UserError as error:
        if sights == {"native"}:
            return str(error)
        return (
            f"--data {config.data} has no larger pictures, with which it compares; score the "
            "snapshots with calc_metrics.py calc --data-large ZIP"
        )
    return None


def _sources(config: TrainConfig) -> Sources:
    return Sources(data=Path(config.data), labels=config.labels, framed=bool(config.patches.side))


def evaluate_ema(
    trainer: Trainer, metrics: Sequence[str], cache_dir: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compute metrics and yield (name, record) of each.

    The text encoder of the trainer is used. This is a collective call. It draws nothing from the
    random streams of training.
    """
    if not metrics:
        return
    config = trainer.config
    subject = GeneratorSubject(
        trainer.ema.model, trainer.encoder, config.text_encoder, config.resolution
    )
    for record in evaluate(
        subject,
        _sources(config),
        evaluations_named(metrics),
        num=config.metric_num,
        device=trainer.device,
        cache_dir=cache_dir,
    ):
        yield record["metric"], record
