"""How much pictures of one prompt differ in shape: distance of log magnitude spectra.

A shift of a picture changes the phases of its spectrum and not the magnitudes, so a template that
is only moved does not count as diverse. Only luminance is read, and the mean of the logarithm is
subtracted, so another colour, brightness or contrast does not count either. Frequencies from 1 to 8
cycles a picture are those of outlines and petals; noise has higher ones. Because of the window and
of what enters at the border, a shifted copy is near and not equal: a shift by a sixth of the side
keeps 0.6 of the distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnnlib.errors import UserError
from metrics.arithmetic.seeded_pairs import differing, sharing
from metrics.arithmetic.spectra import cycles, radius, spectra
from metrics.measures.base import Evaluation, Fields, Measure, Session
from metrics.measures.motif import likeness, phases

LOW, HIGH = 1, 8  # cycles a picture, both included
_FAINT = 1e-3  # of the norm of the magnitudes; it is added to each of them
_LEAST = 1.0  # the least norm of the magnitudes, in levels of 255, for flat pictures


@dataclass(frozen=True, kw_only=True)
class PromptDiversity(Measure):
    """Difference of pictures of one prompt, over that of real pictures of one caption.

    If fewer than `least_real` real pictures share a caption with another one, any two real
    pictures are compared.
    """

    kind = "prompt_diversity"
    better = "high"
    detector: str = "pixels"
    num_pairs: int = 4000
    least_real: int = 50

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`parts`: both distances, and the likeness (`motif`) of pictures of one prompt."""
        real, generated = session.pixels(evaluation)
        keys = session.image_set(evaluation.pictures).prompt_keys()
        pairs = sharing([[key] for key in keys], self.num_pairs)
        if len(pairs) == 0:
            raise UserError(
                "no two pictures have one prompt; ppd compares them: make the pictures with "
                "calc_metrics.py gen --metrics ppd"
            )
        compared = "of one caption"
        captions = session.real_captions(evaluation)
        real_pairs = sharing(captions, self.num_pairs, self.least_real)
        if len(real_pairs) == 0:
            compared = "any two"
            real_pairs = differing(range(len(real)), self.num_pairs)
        parts = {
            "generated": mean_distance(log_magnitudes(generated), pairs),
            "real": mean_distance(log_magnitudes(real), real_pairs),
            "motif": likeness(phases(generated), pairs) / likeness(phases(real), real_pairs),
        }
        return {
            "value": parts["generated"] / parts["real"],
            "parts": parts,
            "num_real": len(real),
            "real_pairs": compared,
        }


def log_magnitudes(pictures: np.ndarray) -> np.ndarray:
    """Logarithms of the magnitudes of uint8 [N, 3, S, S] less their mean, float64 [N, K].

    K is the number of frequencies in the band.
    """
    side = pictures.shape[-1]
    down, across = cycles(side)[:, None], cycles(side)
    half = (down > 0) | ((down == 0) & (across > 0))  # the rest is the mirror image
    band = half & (LOW <= radius(side)) & (radius(side) <= HIGH)
    logarithms = []
    for block in spectra(pictures):
        magnitude = np.abs(block[:, band])
        norm = np.maximum(np.linalg.norm(magnitude, axis=1, keepdims=True), _LEAST)
        logarithm = np.log(magnitude + _FAINT * norm)
        logarithms.append(logarithm - logarithm.mean(1, keepdims=True))
    return np.concatenate(logarithms)


def mean_distance(logarithms: np.ndarray, pairs: np.ndarray) -> float:
    """Mean over pairs of the root mean square difference. pairs: int [P, 2], indices."""
    first, second = (logarithms[column] for column in pairs.T)
    return float(np.sqrt(np.square(first - second).mean(1)).mean())
