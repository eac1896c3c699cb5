"""How much pictures of one prompt differ in shape: distance of log magnitude spectra.

A shift of a picture changes the phases of its spectrum and leaves the magnitudes, so moving one
template about earns nothing. Only luminance counts, less the mean of the logarithm, so neither do
another colour, brightness or contrast. Frequencies from 1 to 8 cycles a picture are those of
outlines and petals; noise is above them. Because of the window and of what comes in at the border,
a shifted copy is near, not equal: at a sixth of the side it keeps 0.6 of the distance.
"""

from __future__ import annotations

import numpy as np

from metrics.arithmetic.spectra import cycles, radius, spectra

LOW, HIGH = 1, 8  # cycles a picture, both included
_FAINT = 1e-3     # of the norm of the magnitudes: what is below counts as this much
_LEAST = 1.0      # norm of the magnitudes, in levels of 255, that a flat picture is given


def log_magnitudes(pictures: np.ndarray) -> np.ndarray:
    """Of uint8 [N, 3, S, S]: natural logarithms less their mean over the band, float64 [N, K]."""
    side = pictures.shape[-1]
    down, across = cycles(side)[:, None], cycles(side)
    half = (down > 0) | ((down == 0) & (across > 0))  # the other half is its mirror image
    band = half & (LOW <= radius(side)) & (radius(side) <= HIGH)
    rows = []
    for block in spectra(pictures):
        magnitude = np.abs(block[:, band])
        norm = np.maximum(np.linalg.norm(magnitude, axis=1, keepdims=True), _LEAST)
        logarithm = np.log(magnitude + _FAINT * norm)
        rows.append(logarithm - logarithm.mean(1, keepdims=True))
    return np.concatenate(rows)


def mean_distance(logarithms: np.ndarray, pairs: np.ndarray) -> float:
    """Mean over pairs of the root mean square difference; pairs: int [P, 2], rows of it."""
    first, second = (logarithms[column] for column in pairs.T)
    return float(np.sqrt(np.square(first - second).mean(1)).mean())
