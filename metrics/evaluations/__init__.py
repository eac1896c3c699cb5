"""The frozen evaluations by name, and questions about them. It imports no torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import fields

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from metrics.evaluations.table import EVALUATIONS
from metrics.evaluations.table import PROTOCOLS_VERSION as PROTOCOLS_VERSION
from metrics.measures.base import Better, Evaluation


def evaluations_named(names: Iterable[str]) -> list[Evaluation]:
    """Rows of the table by name, in the order given, without repeats.

    Raises `UserError` for an unknown name, with the nearest known one.
    """
    chosen = {}
    for name in names:
        if name not in EVALUATIONS:
            raise UserError(f"--metrics {name}: no such evaluation; {nearest(name, EVALUATIONS)}")
        chosen[name] = EVALUATIONS[name]
    if not chosen:
        raise UserError(f"--metrics: name at least one of {', '.join(EVALUATIONS)}")
    return list(chosen.values())


def lacking(evaluation: Evaluation, splits: Collection[str], has_captions: bool) -> str | None:
    """What a data set with these splits lacks for the evaluation, with the remedy, or None."""
    named = (evaluation.pictures.split, *(reference.split for reference in evaluation.references))
    split = next((split for split in named if split not in (*splits, "all")), None)
    if split is not None:
        return (
            f"{split} split; score against all pictures (fid50k_full, kid_full_lite2), or "
            "rebuild it with such a split (coco: val as well; folder: --test-share 0.1)"
        )
    if evaluation.measure.needs_captions and not has_captions:
        return "captions, with which this measure compares pictures; leave the measure out"
    return None


def served(
    evaluations: Iterable[Evaluation],
    splits: Collection[str],
    has_captions: bool,
) -> tuple[list[Evaluation], dict[str, list[str]]]:
    """The evaluations that a data set can serve, and the names of the others by what it lacks."""
    kept: list[Evaluation] = []
    others: dict[str, list[str]] = {}
    for evaluation in evaluations:
        lack = lacking(evaluation, splits, has_captions)
        if lack is None:
            kept.append(evaluation)
        else:
            others.setdefault(lack, []).append(evaluation.name)
    return kept, others


def better(name: str) -> Better:
    """Whether a "low" or a "high" `value` of that evaluation is good, or one near "one".

    Raises `UserError` for names that are not in the table.
    """
    return evaluations_named([name])[0].measure.better


def badness(name: str, value: float) -> float:
    """A number that is least for the best `value` of that evaluation.

    Near 1, twice as much is as bad as half as much.
    """
    good = better(name)
    if good == "one":
        return abs(math.log(value)) if value > 0 else math.inf
    return value if good == "low" else -value


def overrides_of(evaluation: Evaluation) -> dict[str, object]:
    """The fields of its pictures in which an evaluation differs from the row of its name."""
    frozen = EVALUATIONS.get(evaluation.name, evaluation).pictures
    pictures = evaluation.pictures
    names = [field.name for field in fields(pictures)]
    return {
        name: getattr(pictures, name)
        for name in names
        if getattr(pictures, name) != getattr(frozen, name)
    }
