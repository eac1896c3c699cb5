"""Sliced Wasserstein distance of patches on the levels of a Laplacian pyramid, without a network.

Karras et al. 2018 (Progressive Growing of GANs, section 5) take 7 x 7 patches of each level and
normalise each colour channel by its mean and deviation over all patches of the set. The distance
is the mean Wasserstein-1 distance of the patches' projections on random directions, x 1000 as in
the paper's table. The pyramid is that of Burt and Adelson 1983, with a binomial filter of five
taps and mirrored borders.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from metrics.measures.base import Evaluation, Fields, Measure, Session

PATCH_PX = 7
LEAST_PX = 16  # side of the smallest level
FACTOR = 1000
_BLOCK = 64  # directions at once
_TAPS = np.array([1, 4, 6, 4, 1], np.float32) / 16


@dataclass(frozen=True, kw_only=True)
class SlicedWasserstein(Measure):
    """The mean of the distances of all levels, of equally many real and generated pictures."""

    kind = "sliced_wasserstein"
    better = "low"
    detector: str = "pixels"
    num_patches: int = 128
    num_directions: int = 512

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`parts`: the distance of each level by its side in pixels.

        The larger set is reduced to the size of the smaller one by a seeded draw.
        """
        real, generated = session.pixels(evaluation)
        count = min(len(real), len(generated))
        sides = [
            pictures
            if len(pictures) == count
            else pictures[np.random.default_rng(0).choice(len(pictures), count, replace=False)]
            for pictures in (real, generated)
        ]
        levels = sliced_wasserstein(
            *sides, num_patches=self.num_patches, num_directions=self.num_directions
        )
        return {
            "value": float(np.mean(list(levels.values()))),
            "unit": "x 1000",
            "parts": {str(side): value for side, value in levels.items()},
            "num_real": len(real),
            "num_compared": count,
        }


def sliced_wasserstein(
    real: np.ndarray, fake: np.ndarray, *, num_patches: int, num_directions: int, seed: int = 0
) -> dict[int, float]:
    """The distance x 1000 by the side of the level in pixels, finest first.

    real, fake: uint8 [N, 3, S, S] with the same N, and S at least 7. num_patches: the number of
    patches of each picture and level. The places of the patches of a picture are drawn from its
    content and the seed, so the distance of equal sets is 0 in any order. The distance falls as
    the number of pictures grows. All numbers are float32.
    """
    sets = [_descriptors(pictures, num_patches, seed) for pictures in (real, fake)]
    distances = {}
    for side, first, second in zip(level_sides(real.shape[-1]), *sets, strict=True):
        distances[side] = FACTOR * _distance(
            _normalised(first), _normalised(second), num_directions, seed
        )
    return distances


def level_sides(side: int) -> list[int]:
    """The sides of the levels: halved while that leaves whole numbers of at least 16 pixels."""
    sides = [side]
    while sides[-1] % 2 == 0 and sides[-1] // 2 >= LEAST_PX:
        sides.append(sides[-1] // 2)
    return sides


def laplacian_pyramid(pictures: np.ndarray) -> list[np.ndarray]:
    """The float32 levels of pictures [..., S, S], finest first.

    A level is the difference between a picture and its enlarged, half as large version. The last
    level is the smallest version itself.
    """
    sizes = level_sides(pictures.shape[-1])
    low = [pictures.astype(np.float32)]
    for _ in sizes[1:]:
        low.append(_smooth(low[-1])[..., ::2, ::2])
    return [fine - _enlarged(coarse) for fine, coarse in pairwise(low)] + [low[-1]]


def _smooth(x: np.ndarray, gain: float = 1) -> np.ndarray:
    from scipy.ndimage import correlate1d  # train.py starts without scipy

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
    all_patches = [np.empty(shape, np.float32) for _ in sides]
    for number, picture in enumerate(pictures):
        stream = np.random.default_rng((seed, zlib.crc32(picture.tobytes())))
        for patches, level in zip(all_patches, laplacian_pyramid(picture), strict=True):
            windows = sliding_window_view(level, (PATCH_PX, PATCH_PX), axis=(1, 2))
            top, left = stream.integers(0, windows.shape[1], (2, num))
            patches[number] = windows[:, top, left].swapaxes(0, 1)
    return [patches.reshape(-1, *shape[2:]) for patches in all_patches]


def _normalised(patches: np.ndarray) -> np.ndarray:
    """Each channel has mean 0 and deviation 1 over the set.  # [P, 3 * 7 * 7]"""
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
        block = directions[:, start : start + _BLOCK].T
        lines = [np.sort(block @ rows.T, axis=1) for rows in (first, second)]
        total += float(np.abs(lines[0] - lines[1]).mean(1, dtype=np.float64).sum())
    return total / num
