"""Does a zoom show what a large picture shows there? A zoomed view against the crop, PSNR in dB.

A generator that computes every pixel from its place alone passes up to rounding. One whose pixels
depend on the size or the window of the view does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from metrics.measures.base import Evaluation, Fields, Measure, Session

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class ZoomConsistency(Measure):
    """PSNR of a window at S and the same window of the frame at factor x S, in dB, at most 100.

    The window has 1 / factor of the side of the frame and lies at random, on whole pixels of the
    large render. Only the convention of pixel centres is compared.
    """

    kind = "zoom_consistency"
    better = "high"
    detector = None
    factor: int

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`value` is the mean over pictures; `worst` is the lowest value of a picture."""
        from metrics.pictures.ranks import over_ranks

        agreement = partial(self._agreement, session, evaluation)
        values = over_ranks(evaluation.pictures.num_images, agreement)
        return {"value": float(np.mean(values)), "unit": "dB", "worst": min(values)}

    def _agreement(self, session: Session, evaluation: Evaluation, share: range) -> list[float]:
        from metrics.arithmetic.similarity import psnr, to_unit
        from metrics.pictures.sights import window_at
        from networks.coordinates import View

        pictures, side = evaluation.pictures, session.resolution
        large = View.square(side * self.factor)
        corner = partial(self.corner, pictures.seed, side)
        renders = (
            session.render(pictures, share, large),
            session.render(
                pictures, share, lambda index: window_at(*corner(index), side, large.width)
            ),
        )
        values = []
        for index, whole, zoomed in zip(share, *renders, strict=True):
            top, left = corner(index)
            crop = whole[:, top : top + side, left : left + side]
            values.append(psnr(*(to_unit(image[None]) for image in (crop, zoomed))).item())
        return values

    def corner(self, seed: int, side: int, index: int) -> tuple[int, int]:
        """(top, left) of the window of picture `index`, in pixels of the large render."""
        from torch_utils.rng import seed_for

        room = side * (self.factor - 1) + 1
        top, left = (seed_for("zoom", axis, seed, index) % room for axis in ("row", "column"))
        return top, left
