"""How much of the detail lies on lines along rows and columns: the lattice of bi-line generators.

A structure that repeats down the rows or across the columns puts energy on the axes of the 2-D
power spectrum. The share of the axes in all energy at equal distance from the centre is taken in
three octaves up to half a cycle a pixel. 1 = as real pictures.
"""

from __future__ import annotations

import numpy as np

from metrics.arithmetic.spectra import cycles, radius, spectra

# Cycles a pixel; the upper end is left out.
OCTAVES = ((1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2))
# Less energy than one level in one pixel of the middle: what flat pictures have by rounding.
_LEAST = 1.0


def axis_shares(pictures: np.ndarray) -> np.ndarray:
    """Mean over pictures of the axes' share of the energy in each octave, float64 [3], each 0 to 1.

    pictures: uint8 [N, 3, S, S], S at least 16. Pictures that are flat in an octave are left out
    of its mean. Raises `FloatingPointError` where all of them are.
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
    """The frequency where the mean power spectrum stands out most against that of real pictures.

    Each picture's spectrum is divided by its energy in the octave first, so that contrast and
    blur do not count. Pictures that are flat in an octave are left out of it. Returns the ratio
    fake / real, which is 1 or more, and the frequency (down, across) in cycles a picture. A lattice
    of dots off the axes shows here and not in `axis_shares`.
    """
    means = [_mean_spectrum(pictures) for pictures in (real, fake)]
    ratio = means[1] / np.maximum(means[0], np.finfo(float).tiny)
    down, across = np.unravel_index(ratio.argmax(), ratio.shape)
    side = real.shape[-1]
    return float(ratio.max()), (int(cycles(side)[down]), int(cycles(side)[across]))


def _mean_spectrum(pictures: np.ndarray) -> np.ndarray:
    """Of the pictures that are not flat, each with energy 1 in each octave; zero outside of all."""
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
