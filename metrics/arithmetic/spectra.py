"""Spectra of luminance, for measures that read pixels and no network.

Luminance is 0.299 R + 0.587 G + 0.114 B (Rec. 601) less its mean over the picture. A Hann window
takes it to zero at the borders. Without one, the step from one border to the opposite one would put
energy on the axes of the spectrum. Frequencies are in cycles a picture unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_LUMINANCE = np.array([0.299, 0.587, 0.114])
_BLOCK = 256  # pictures at once, which bounds the memory


def spectra(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of the spectra of uint8 [N, 3, S, S], in order, each complex [n, S, S].

    Position [k, l] holds the frequency `cycles(S)[k]` down and `cycles(S)[l]` across.
    """
    side = pictures.shape[-1]
    window = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    for start in range(0, len(pictures), _BLOCK):
        block = pictures[start : start + _BLOCK].astype(np.float64)
        luminance = np.tensordot(block, _LUMINANCE, (1, 0))
        luminance -= luminance.mean((1, 2), keepdims=True)
        yield np.fft.fft2(luminance * (window[:, None] * window))


def cycles(side: int) -> np.ndarray:
    """The frequencies of a discrete Fourier transform of this length, float64 [S]."""
    return np.fft.fftfreq(side, 1 / side)


def radius(side: int) -> np.ndarray:
    """The length of the frequency vector at each position of a spectrum, float64 [S, S]."""
    return np.hypot(cycles(side)[:, None], cycles(side))
