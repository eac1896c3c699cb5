"""Does a picture move as a whole when its coordinates move? EQ-T, EQ-T_frac and EQ-R in dB.

Karras et al. 2021 (StyleGAN3), equation 3 and appendix E:
    EQ = 10 log10(I_max^2 / E[(g(t[z_0]; w)_c(p) - t[g(z_0; w)]_c(p))^2]),  I_max = 2.
The mean runs over pictures w, transformations t, valid pixels p and channels c together. The input
z_0 of a generator of coordinates is its view. So g(t[z_0]) is the render of the transformed view,
and t[g(z_0)] is the render of the plain view, resampled by `metrics.arithmetic.resampling`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from metrics.measures.base import Evaluation, Fields, Measure, Session, require_side

if TYPE_CHECKING:
    import torch

    from networks.coordinates import View

Transformation = Literal["translation", "fractional_translation", "rotation"]
LEAST_PX = {"translation": 8, "fractional_translation": 16, "rotation": 32}
_PEAK = 2.0  # I_max: pictures lie in [-1, 1]
_PART = 8  # a translation goes up to 1 / 8 of the side along each axis


@dataclass(frozen=True, kw_only=True)
class Equivariance(Measure):
    """Signal-to-noise ratio of renders of transformed views. `value` is in dB, at most 100.

    translation: by whole pixels, compared without a filter. fractional_translation: by any offset,
    the plain render resampled by a Lanczos filter. rotation: by any angle about the middle of the
    frame, both renders limited to the frequencies that both grids of pixels hold.
    """

    kind = "equivariance"
    better = "high"
    detector = None
    transformation: Transformation

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`worst` is the lowest value of a single picture.

        Raises `UserError` for pictures that are too small to leave valid pixels.
        """
        from metrics.pictures.ranks import over_ranks

        side = session.resolution
        require_side(side, LEAST_PX[self.transformation])
        errors = partial(self._errors, session, evaluation)
        sums = np.array(over_ranks(evaluation.pictures.num_images, errors))  # [N, 2]
        total, count = sums.sum(axis=0)
        worst = float((sums[:, 0] / sums[:, 1]).max())
        return {"value": _decibels(total / count), "unit": "dB", "worst": _decibels(worst)}

    def _errors(
        self, session: Session, evaluation: Evaluation, share: range
    ) -> list[tuple[float, int]]:
        """Sum of the squared errors, and number of the values, of each picture of the share."""
        from networks.coordinates import View

        pictures, plain = evaluation.pictures, View.square(session.resolution)
        motion = partial(Motion.drawn, self.transformation, pictures.seed, plain.width)
        renders = (
            session.render(pictures, share, plain),
            session.render(pictures, share, lambda index: motion(index).of_view(plain)),
        )
        errors = []
        for index, *images in zip(share, *renders, strict=True):
            original, result = (image.double() for image in images)
            error, valid = motion(index).error(original, result)
            values = error[:, valid].square()
            errors.append((values.sum().item(), values.numel()))
        return errors


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One transformation. offset: to the right and down, in pixels. degrees: counter-clockwise."""

    transformation: Transformation
    offset: tuple[float, float] = (0.0, 0.0)
    degrees: float = 0.0

    @staticmethod
    def drawn(transformation: Transformation, seed: int, side: int, index: int) -> Motion:
        """The motion of picture `index` of seed block `seed`, for pictures of `side` pixels."""
        import torch

        from torch_utils.rng import generator_for

        stream = generator_for("equivariance", transformation, seed, index)
        if transformation == "rotation":
            turn = torch.rand(1, generator=stream, dtype=torch.float64).item()
            return Motion(transformation=transformation, degrees=360 * turn)
        if transformation == "translation":
            most = side // _PART
            right, down = torch.randint(-most, most + 1, (2,), generator=stream).tolist()
        else:
            spread = torch.rand(2, generator=stream, dtype=torch.float64) * 2 - 1
            right, down = (spread * side / _PART).tolist()
        return Motion(transformation=transformation, offset=(right, down))

    def of_view(self, view: View) -> View:
        """The view of the moved picture: g(t[z_0]) samples it."""
        right, down = self.offset
        translate = (right / view.width, down / view.height)
        return view.transformed(rotate=self.degrees, translate=translate)

    def error(
        self, original: torch.Tensor, result: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """g(t[z_0]) - t[g(z_0)], float64 [3, S, S], and the valid pixels, bool [S, S].

        original: the render of the plain view. result: the render of the moved view.
        """
        from metrics.arithmetic import resampling

        if self.transformation == "rotation":
            reference, valid = resampling.rotated(original, self.degrees)
            result, inside = resampling.pseudo_rotated(result, self.degrees)
            return result - reference, valid & inside
        if self.transformation == "translation":
            right, down = map(int, self.offset)
            reference, valid = resampling.shifted(original, (right, down))
        else:
            reference, valid = resampling.lanczos_shifted(original, self.offset)
        return result - reference, valid


def _decibels(squared_error: float) -> float:
    from metrics.arithmetic.similarity import MAX_PSNR_DB

    return min(MAX_PSNR_DB, 10 * math.log10(_PEAK**2 / max(squared_error, 1e-12)))
