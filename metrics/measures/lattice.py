"""How much of the detail lies on lines along rows and columns, as bi-line generators may make.

A structure that repeats down the rows or across the columns puts energy on the axes of the 2-D
power spectrum. The formula takes the share of the axes in the energy of three octaves, up to half a
cycle a pixel, and divides the share of generated pictures by that of real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrics.arithmetic.spectra import cycles, radius, spectra
from metrics.measures.base import Evaluation, Fields, Measure, Session

# In cycles a pixel; the upper end does not belong to an octave.
OCTAVES = ((1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2))
# Flat pictures have less energy than this by rounding: one level in one pixel of the middle.
_LEAST = 1.0


@dataclass(frozen=True, kw_only=True)
class Lattice(Measure):
    """Energy on the axes of the spectrum, over that of real pictures. 1 is as in real pictures."""

    kind = "lattice"
    better = "one"
    detector: str = "pixels"

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`value` is the geometric mean over the octaves.

        `parts` holds the ratio of each octave, and the largest ratio at a single frequency.
        """
        real, generated = session.pixels(evaluation)
        ratios = axis_shares(generated) / axis_shares(real)
        highest, (down, across) = peak(real, generated)
        parts = {"octaves": ratios.tolist(), "peak": highest, "peak_cycles": [down, across]}
        value = float(np.exp(np.log(ratios).mean()))
        return {"value": value, "parts": parts, "num_real": len(real)}


def axis_shares(pictures: np.ndarray) -> np.ndarray:
    """Mean over pictures of the axes' share of the energy in each octave, float64 [3], each 0 to 1.

    pictures: uint8 [N, 3, S, S], S at least 16. Pictures that are flat in an octave are left out
    of its mean. Raises `FloatingPointError` if all pictures are flat.
    """
    side = pictures.shape[-1]
    on_axes = (cycles(side)[:, None] == 0) | (cycles(side) == 0)
    shares: list[list[float]] = [[] for _ in OCTAVES]
    for block in spectra(pictures):
        power = np.abs(block) ** 2
        for kept, ring in zip(shares, rings(side), strict=True):
            total = power[:, ring].sum(1)
            axes = power[:, ring & on_axes].sum(1)
            kept.extend((axes / np.maximum(total, _LEAST))[total >= _LEAST])
    if not all(shares):
        raise FloatingPointError("all pictures are flat, so that their spectrum says nothing")
    return np.array([np.mean(kept) for kept in shares])


def rings(side: int) -> list[np.ndarray]:
    """bool [S, S] of each octave."""
    return [(low * side <= radius(side)) & (radius(side) < high * side) for low, high in OCTAVES]


def peak(real: np.ndarray, fake: np.ndarray) -> tuple[float, tuple[int, int]]:
    """The frequency where the mean power spectrum stands out most from that of real pictures.

    The spectrum of each picture is divided by its energy in the octave first, so that contrast and
    blur do not count. Pictures that are flat in an octave are left out of it. Returns the ratio
    fake / real, which is 1 or more, and the frequency (down, across) in cycles a picture. A lattice
    of dots that is not on the axes shows here and not in `axis_shares`.
    """
    means = [_mean_spectrum(pictures) for pictures in (real, fake)]
    ratio = means[1] / np.maximum(means[0], np.finfo(float).tiny)
    down, across = np.unravel_index(ratio.argmax(), ratio.shape)
    side = real.shape[-1]
    return float(ratio.max()), (int(cycles(side)[down]), int(cycles(side)[across]))


def _mean_spectrum(pictures: np.ndarray) -> np.ndarray:
    """Mean power spectrum of pictures that are not flat, each with energy 1 in each octave."""
    side = pictures.shape[-1]
    mean, counts = np.zeros((side, side)), [0] * len(OCTAVES)
    for block in spectra(pictures):
        power = np.abs(block) ** 2
        for number, ring in enumerate(rings(side)):
            part = power[:, ring]
            total = part.sum(1, keepdims=True)
            kept = total[:, 0] >= _LEAST
            mean[ring] += (part[kept] / total[kept]).sum(0)
            counts[number] += int(kept.sum())
    for count, ring in zip(counts, rings(side), strict=True):
        mean[ring] /= max(count, 1)
    return mean
