"""Pictures whose statistics are known, and their spectra from the plain formula."""

import numpy as np
from scipy.ndimage import gaussian_filter

LUMINANCE = (0.299, 0.587, 0.114)


def blobs(count, seed, side=32, sigma=1.5, deviation=40):
    """Smooth random pictures of the same statistics, uint8 [count, 3, side, side]."""
    noise = np.random.default_rng(seed).standard_normal((count, 3, side, side))
    smooth = gaussian_filter(noise, (0, 0, sigma, sigma), mode="wrap")
    return as_pictures(128 + deviation * smooth / smooth.std())


def as_pictures(x):
    return x.round().clip(0, 255).astype(np.uint8)


def copies_with_shifts(count, seed, side=32):
    """One picture moved by up to an eighth of the side, in other colours and contrasts."""
    rng, one = np.random.default_rng(seed), blobs(1, seed, side)[0].astype(float)
    moved = [np.roll(one, rng.integers(-side // 8, side // 8 + 1, 2), (1, 2)) for _ in range(count)]
    gains, offsets = rng.uniform(0.5, 1, (count, 3, 1, 1)), rng.uniform(0, 60, (count, 3, 1, 1))
    return as_pictures(np.stack(moved) * gains + offsets)


def slow_spectrum(picture):
    """Sums over all pixels, one frequency after the other, by frequency (down, across)."""
    side = picture.shape[-1]
    grey = sum(
        weight * channel for weight, channel in zip(LUMINANCE, picture.astype(float), strict=True)
    )
    window = np.hanning(2 * side + 1)[1::2]  # samples at the middle of the pixels
    grey = (grey - grey.mean()) * window[:, None] * window
    places, reach = np.arange(side), range(-(side // 2), (side + 1) // 2)
    waves = {k: np.exp(-2j * np.pi * k * places / side) for k in reach}
    return {(k, m): waves[k] @ grey @ waves[m] for k in reach for m in reach}
