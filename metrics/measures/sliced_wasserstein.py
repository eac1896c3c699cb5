"""Sliced Wasserstein distance of patches on the levels of a Laplacian pyramid, without a network.

Karras et al. 2018 (Progressive Growing of GANs, section 5): 7 x 7 patches of each level, each
colour channel normalised by its mean and deviation over all patches of the set, then the mean
Wasserstein-1 distance of their projections on random directions. x 1000, as in the paper's table.
Pyramid: Burt and Adelson 1983, binomial filter of five taps, mirrored borders.
"""

from __future__ import annotations

import zlib
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

PATCH_PX = 7
LEAST_PX = 16         # side of the smallest level
FACTOR = 1000
_BLOCK = 64           # directions at once
_TAPS = np.array([1, 4, 6, 4, 1], np.float32) / 16


def sliced_wasserstein(real: np.ndarray, fake: np.ndarray, *, num_patches: int,
                       num_directions: int, seed: int = 0) -> dict[int, float]:
    """The distance x 1000 by the side of the level in pixels, finest first.

    real, fake: uint8 [N, 3, S, S], equally many, S at least 7. num_patches: of each picture and
    level. It is 0 for equal sets in any order, since the places of a picture's patches are drawn
    from its content and the seed. It falls as pictures grow in number. All numbers are float32.
    """
    sets = [_descriptors(pictures, num_patches, seed) for pictures in (real, fake)]
    distances = {}
    for side, first, second in zip(level_sides(real.shape[-1]), *sets, strict=True):
        distances[side] = FACTOR * _distance(_normalised(first), _normalised(second),
                                             num_directions, seed)
    return distances


def level_sides(side: int) -> list[int]:
    """The sides of the levels: halved while that leaves whole numbers of at least 16 pixels."""
    sides = [side]
    while sides[-1] % 2 == 0 and sides[-1] // 2 >= LEAST_PX:
        sides.append(sides[-1] // 2)
    return sides


def laplacian_pyramid(pictures: np.ndarray) -> list[np.ndarray]:
    """[..., S, S] -> float32 levels, finest first; each is what the next one, enlarged, lacks.

    The last level is the low-pass picture itself.
    """
    sizes = level_sides(pictures.shape[-1])
    low = [pictures.astype(np.float32)]
    for _ in sizes[1:]:
        low.append(_smooth(low[-1])[..., ::2, ::2])
    return [fine - _enlarged(coarse) for fine, coarse in pairwise(low)] + [low[-1]]


def _smooth(x: np.ndarray, gain: float = 1) -> np.ndarray:
    from scipy.ndimage import correlate1d  # here, because train.py starts without scipy

    for axis in (-2, -1):
        x = correlate1d(x, gain * _TAPS, axis=axis, mode="mirror")
    return x


def _enlarged(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((*x.shape[:-2], 2 * x.shape[-2], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2, ::2] = x
    return _smooth(wide, 2)


def _descriptors(pictures: np.ndarray, num: int, seed: int) -> list[np.ndarray]:
    """Patches of each level, float32 [N * num, 3, 7, 7]."""
    sides = level_sides(pictures.shape[-1])
    shape = (len(pictures), num, 3, PATCH_PX, PATCH_PX)
    found = [np.empty(shape, np.float32) for _ in sides]
    for number, picture in enumerate(pictures):
        stream = np.random.default_rng((seed, zlib.crc32(picture.tobytes())))
        for patches, level in zip(found, laplacian_pyramid(picture), strict=True):
            windows = sliding_window_view(level, (PATCH_PX, PATCH_PX), axis=(1, 2))
            top, left = stream.integers(0, windows.shape[1], (2, num))
            patches[number] = windows[:, top, left].swapaxes(0, 1)
    return [patches.reshape(-1, *shape[2:]) for patches in found]


def _normalised(patches: np.ndarray) -> np.ndarray:
    """Each channel less its mean and over its deviation in the set.  # [P, 3 * 7 * 7]"""
    axes = (0, 2, 3)
    patches -= patches.mean(axes, keepdims=True, dtype=np.float64)
    deviation = np.sqrt(np.square(patches).mean(axes, keepdims=True, dtype=np.float64))
    patches /= np.maximum(deviation, 1e-6)  # a channel of one value stays 0
    return patches.reshape(len(patches), -1)


def _distance(first: np.ndarray, second: np.ndarray, num: int, seed: int) -> float:
    """Mean absolute difference of the sorted projections on `num` seeded unit vectors."""
    directions = np.random.default_rng(seed).standard_normal((first.shape[1], num))
    directions = (directions / np.linalg.norm(directions, axis=0)).astype(np.float32)
    total = 0.0
    for start in range(0, num, _BLOCK):
        block = directions[:, start:start + _BLOCK].T
        lines = [np.sort(block @ rows.T, axis=1) for rows in (first, second)]
        total += float(np.abs(lines[0] - lines[1]).mean(1, dtype=np.float64).sum())
    return total / num
