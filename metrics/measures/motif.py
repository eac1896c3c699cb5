"""How alike pictures are at the shift that fits best: phase correlation (Kuglin and Hines 1975).

Every frequency from 3 to 16 cycles a picture has the same weight, and only its phase counts.
Therefore contrast, blur, colour and lighting do not make pictures alike, and a common motif is
found wherever it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnnlib.errors import UserError
from metrics.arithmetic.seeded_pairs import differing
from metrics.arithmetic.spectra import radius, spectra
from metrics.measures.base import Evaluation, Fields, Measure, Session

LOW, HIGH = 3, 16  # cycles a picture, both included
GRID = 64  # shifts that are tried along each axis
_FAINT = 1e-3  # of the mean amplitude; the phase of a smaller one is rounding
_FLAT = 1e-2  # mean amplitude of a picture without detail, in levels of 255
_BLOCK = 512  # pairs at once


@dataclass(frozen=True, kw_only=True)
class Motif(Measure):
    """Likeness of pictures of different prompts, over that of real pictures."""

    kind = "motif"
    better = "one"
    detector: str = "pixels"
    num_pairs: int = 4000

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`parts`: the likeness of the generated and of the real pictures."""
        real, generated = session.pixels(evaluation)
        pairs = differing(session.image_set(evaluation.pictures).prompt_keys(), self.num_pairs)
        if len(pairs) == 0:
            raise UserError(
                "all pictures have one prompt; motif compares pictures of different ones"
            )
        real_pairs = differing(range(len(real)), self.num_pairs)
        parts = {
            "generated": likeness(phases(generated), pairs),
            "real": likeness(phases(real), real_pairs),
        }
        value = parts["generated"] / parts["real"]
        return {"value": value, "parts": parts, "num_real": len(real)}


def phases(pictures: np.ndarray) -> np.ndarray:
    """The phases of pictures uint8 [N, 3, S, S] in the band, complex64 [N, GRID, GRID].

    Each picture has norm 1, or 0 if it has no detail.
    """
    side = pictures.shape[-1]
    reach = min(HIGH, (side - 1) // 2)
    around = np.arange(-reach, reach + 1)
    band = radius(side)[np.ix_(around, around)]
    band = (LOW <= band) & (band <= HIGH)
    normalised = np.zeros((len(pictures), GRID, GRID), np.complex64)
    start = 0
    for block in spectra(pictures):
        part = block[:, around[:, None], around] * band
        mean = np.abs(part).sum((1, 2), keepdims=True) / band.sum()
        part /= np.maximum(np.abs(part), np.maximum(_FAINT * mean, _FLAT))
        norm = np.sqrt((np.abs(part) ** 2).sum((1, 2), keepdims=True))
        part = np.where(mean > _FLAT, part / np.maximum(norm, _FAINT), 0)
        normalised[start : start + len(part), around[:, None], around] = part
        start += len(part)
    return normalised


def likeness(parts: np.ndarray, pairs: np.ndarray) -> float:
    """Mean over pairs of the correlation at the shift that fits best, from 0 to 1 (equal).

    parts: the result of `phases`. pairs: int [P, 2], indices of pictures. Pairs with a picture
    without detail are left out. Raises `FloatingPointError` if no pair is left.
    """
    from scipy import fft  # train.py starts without scipy

    detailed = np.abs(parts).max((1, 2)) > 0
    pairs = pairs[detailed[pairs].all(1)]
    if len(pairs) == 0:
        raise FloatingPointError("the pictures have no detail in which they could be alike")
    best = []
    for start in range(0, len(pairs), _BLOCK):
        first, second = (parts[column] for column in pairs[start : start + _BLOCK].T)
        half = (first.conj() * second)[..., : GRID // 2 + 1]
        best.append(fft.irfft2(half, (GRID, GRID), norm="forward").max((1, 2)))
    return float(np.concatenate(best).mean())
