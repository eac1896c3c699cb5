"""How alike pictures are, wherever the common motif stands in them: phase correlation.

Two pictures are laid over each other at the shift that fits best (Kuglin and Hines 1975). Every
frequency from 3 to 16 cycles a picture counts alike and with its phase only, so that contrast,
blur, colour and the lighting do not make pictures alike.
"""

from __future__ import annotations

import numpy as np

from metrics.arithmetic.spectra import radius, spectra

LOW, HIGH = 3, 16     # cycles a picture, both included
GRID = 64             # shifts that are tried along each axis
_FAINT = 1e-3         # of the mean amplitude: below it, a phase is rounding
_FLAT = 1e-2          # mean amplitude of a picture without detail, in levels of 255
_BLOCK = 512          # pairs at once


def phases(pictures: np.ndarray) -> np.ndarray:
    """The phases of uint8 [N, 3, S, S] in the band: complex64 [N, GRID, GRID], of norm 1.

    Zero for a picture without detail.
    """
    side = pictures.shape[-1]
    reach = min(HIGH, (side - 1) // 2)
    around = np.arange(-reach, reach + 1)
    band = radius(side)[np.ix_(around, around)]
    band = (LOW <= band) & (band <= HIGH)
    found = np.zeros((len(pictures), GRID, GRID), np.complex64)
    start = 0
    for block in spectra(pictures):
        part = block[:, around[:, None], around] * band
        mean = np.abs(part).sum((1, 2), keepdims=True) / band.sum()
        part /= np.maximum(np.abs(part), np.maximum(_FAINT * mean, _FLAT))
        norm = np.sqrt((np.abs(part) ** 2).sum((1, 2), keepdims=True))
        part = np.where(mean > _FLAT, part / np.maximum(norm, _FAINT), 0)
        found[start:start + len(part), around[:, None], around] = part
        start += len(part)
    return found


def likeness(parts: np.ndarray, pairs: np.ndarray) -> float:
    """Mean over pairs of the correlation at the shift that fits best: 0 to 1, where 1 is equal.

    parts: what `phases` gave. pairs: int [P, 2], rows of it. Pairs with a picture without detail
    are left out. Raises `FloatingPointError` where no pair is left.
    """
    from scipy import fft  # here, because train.py starts without scipy

    detailed = np.abs(parts).max((1, 2)) > 0
    pairs = pairs[detailed[pairs].all(1)]
    if len(pairs) == 0:
        raise FloatingPointError("the pictures have no detail in which they could be alike")
    best = []
    for start in range(0, len(pairs), _BLOCK):
        first, second = (parts[column] for column in pairs[start:start + _BLOCK].T)
        half = (first.conj() * second)[..., :GRID // 2 + 1]
        best.append(fft.irfft2(half, (GRID, GRID), norm="forward").max((1, 2)))
    return float(np.concatenate(best).mean())
