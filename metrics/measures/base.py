"""What a measure is, what an evaluation is, and what a measure may ask of a session.

A measure is a frozen dataclass: its fields are the settings of its formula, and `score` computes
the number. An evaluation is a row of `metrics/evaluations/table.py`: it applies a measure
to stated pictures. This module imports no torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from dnnlib.config_codec import to_dict
from dnnlib.errors import UserError
from metrics.features.wants import VECTORS, Wants
from metrics.pictures.specifications import Pictures, Reference

if TYPE_CHECKING:
    import numpy as np
    import torch

    from metrics.features.extraction import Features
    from metrics.features.moments import Moments
    from metrics.pictures.image_sets import ImageSet
    from metrics.pictures.sights import RealPictures
    from metrics.pictures.subject import Views
    from networks.pretrained.lpips import Lpips

Better = Literal["low", "high", "one"]
Fields = dict[str, Any]
"""`value` and further fields of a score by name, ready for JSON."""


def require_side(side: int, least: int) -> None:
    """Raise `UserError` if the pictures of an evaluation have fewer than `least` pixels a side."""
    if side < least:
        raise UserError(
            f"pictures of at least {least} px a side are needed, these have {side}; leave the "
            "evaluation out"
        )


class Measure(ABC):
    """The base of all measures. A subclass is a frozen, keyword-only dataclass.

    - `kind`: the name of the measure in records.
    - `better`: whether a low or a high `value` is good, or one near 1.
    - `detector`: the network whose features the formula reads; "pixels" for the pictures
      themselves; None if it reads no features, and renders pictures instead.
    - `wants`: whether the formula reads feature vectors or only their moments.
    - `needs_captions`: whether it compares pictures with their captions.
    - `draws_sheet`: whether it writes the picture of `--nearest-sheet`.
    """

    kind: ClassVar[str]
    better: ClassVar[Better]
    wants: ClassVar[Wants] = VECTORS
    needs_captions: ClassVar[bool] = False
    draws_sheet: ClassVar[bool] = False
    detector: str | None

    def passes(self, pictures: Pictures) -> tuple[Pictures, ...]:
        """All sets of generated pictures whose features the formula reads."""
        return () if self.detector is None else (pictures,)

    def references(self, reference: Reference) -> tuple[Reference, ...]:
        """All sets of real pictures that the formula reads, the one to compare with first."""
        return (reference,)

    @abstractmethod
    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`value` and the further fields of the record, the same on every rank.

        Raises `UserError` for pictures that do not fit, with the remedy. A `FloatingPointError` or
        a `ViewError` becomes a record with value None and a note.
        """


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One row of the table: which pictures, which real ones, and the measure that compares them.

    `data` is the beginning of the `source` of the data set on which the evaluation is defined, and
    `resolution` its side in pixels; None means any. `ceiling` marks evaluations that compare a
    picture with itself. They need few pictures, and a larger number of the user does not raise
    theirs. Detectors see pictures as uint8, real and generated ones alike; measures without a
    detector compare floats.
    """

    name: str
    summary: str
    measure: Measure
    pictures: Pictures = Pictures()
    reference: Reference = Reference()
    data: str | None = None
    resolution: int | None = None
    ceiling: bool = False

    @property
    def references(self) -> tuple[Reference, ...]:
        """All sets of real pictures that the measure reads, the one to compare with first."""
        return self.measure.references(self.reference)

    def record(self) -> dict[str, Any]:
        """The evaluation as records hold it. There a sight is called `view`, as in version 1."""
        fields = to_dict(self)
        for part in ("pictures", "reference"):
            fields[part] = {
                "view" if name == "sight" else name: value for name, value in fields[part].items()
            }
        return fields

    def with_overrides(
        self, *, num: int | None = None, seed: int | None = None, truncation: float | None = None
    ) -> Evaluation:
        """The same evaluation with numbers of the user. Raises `UserError` for impossible ones."""
        if num is not None and num < 2:
            raise UserError(f"--num-images {num}: at least 2 pictures are needed")
        if truncation is not None and not math.isfinite(truncation):
            raise UserError(f"--trunc {truncation}: expected a number, usually between 0 and 1")
        pictures = self.pictures
        if num is None or (self.ceiling and num > pictures.num_images):
            num = pictures.num_images
        changed = replace(
            pictures,
            num_images=num,
            seed=pictures.seed if seed is None else seed,
            truncation=pictures.truncation if truncation is None else truncation,
        )
        return replace(self, pictures=changed)


class Session(Protocol):
    """What a measure may ask for. `metrics.session.Session` answers, and computes nothing twice."""

    nearest_sheet: Path | None
    """The file of `--nearest-sheet`; None if it was not given."""

    @property
    def device(self) -> torch.device:
        """Where formulas compute."""

    @property
    def resolution(self) -> int:
        """The side S of the scored pictures in pixels."""

    def vectors(self, evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
        """The feature vectors of the real pictures [M, D] and of the generated ones [N, D]."""

    def moments(self, evaluation: Evaluation) -> tuple[Moments, Moments]:
        """Mean and covariance of the features of the real and of the generated pictures."""

    def pixels(self, evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
        """The real and the generated pictures, uint8 [M, 3, S, S] and [N, 3, S, S].

        Raises `UserError` below 16 px a side.
        """

    def real(self, evaluation: Evaluation, reference: Reference | None = None) -> Features:
        """Features of one of the evaluation's sets of real pictures, the first by default."""

    def generated(self, pictures: Pictures, detector: str) -> Features:
        """Features of a set of generated pictures, in order."""

    def real_pictures(self, reference: Reference) -> RealPictures:
        """The real pictures themselves, with their captions."""

    def real_captions(self, evaluation: Evaluation) -> list[tuple[str, ...]]:
        """All captions of each real picture; none where a file of statistics replaces them."""

    def items_vectors(self, pictures: Pictures, detector: str) -> np.ndarray | None:
        """The feature vectors of the real pictures whose captions made the generated ones.

        [N, D], in the order of the generated pictures; None where those items are not known.
        """

    def image_set(self, pictures: Pictures) -> ImageSet:
        """Item, prompt and latent seed of each generated picture."""

    def caption_pool(self, pictures: Pictures) -> tuple[list[str], str]:
        """One caption of each item, by item number, and where they come from in words."""

    def text_features(self, captions: Sequence[str], detector: str) -> np.ndarray:
        """The text features of captions, float32 [N, D]. Raises `UserError` for an empty one."""

    def render(
        self,
        pictures: Pictures,
        share: range,
        view: Views,
        *,
        batch_size: int | None = None,
        tile_px: int | None = None,
    ) -> Iterator[torch.Tensor]:
        """The pictures of these indices in floats, each [3, H, W], nominally in [-1, 1].

        view: one for all pictures, or a function of the index that gives each picture its view.
        Raises `UserError` for a folder of pictures, which cannot be rendered anew, and
        `FloatingPointError` for a picture that is not finite.
        """

    def lpips(self) -> Lpips:
        """The LPIPS network. Raises `UserError` where pictures are too small or weights lack."""
