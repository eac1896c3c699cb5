"""Sliced Wasserstein distance: against a slow formula, and on sets whose answer is known."""

import zlib

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from metrics.measures.sliced_wasserstein import laplacian_pyramid, level_sides, sliced_wasserstein
from tests.metrics.measures.known_pictures import as_pictures, blobs, copies_with_shifts


def slow_levels(picture):
    def smooth(x, gain):
        for axis in (1, 2):
            padded = np.pad(x, [(2, 2) if a == axis else (0, 0) for a in range(3)], mode="reflect")
            taps = gain * np.array([1, 4, 6, 4, 1]) / 16
            x = sum(
                tap * np.take(padded, range(i, i + x.shape[axis]), axis)
                for i, tap in enumerate(taps)
            )
        return x

    low = [picture.astype(float)]
    while low[-1].shape[-1] >= 32:
        low.append(smooth(low[-1], 1)[:, ::2, ::2])
    up = [smooth(np.kron(x, [[[1, 0], [0, 0]]]), 2) for x in low[1:]]
    return [*(fine - coarse for fine, coarse in zip(low[:-1], up, strict=True)), low[-1]]


def slow_distance(real, fake, num_patches, num_directions, seed):
    found: dict[tuple[int, bool], list[np.ndarray]] = {}
    for pictures in (real, fake):
        for picture in pictures:
            stream = np.random.default_rng((seed, zlib.crc32(picture.tobytes())))
            for level in slow_levels(picture):
                side = level.shape[-1]
                for top, left in stream.integers(0, side - 6, (2, num_patches)).T:
                    patch = level[:, top : top + 7, left : left + 7]
                    found.setdefault((side, pictures is fake), []).append(patch)
    directions = np.random.default_rng(seed).standard_normal((147, num_directions)).T
    result = {}
    for side in sorted({side for side, _ in found}, reverse=True):
        sets = []
        for which in (False, True):
            patches = np.stack(found[side, which])
            for c in range(3):
                patches[:, c] = (patches[:, c] - patches[:, c].mean()) / patches[:, c].std()
            sets.append(patches.reshape(len(patches), -1))
        result[side] = 1000 * np.mean(
            [wasserstein_distance(*(x @ w / np.sqrt(w @ w) for x in sets)) for w in directions]
        )
    return result


def test_sliced_wasserstein_equals_the_slow_formula():
    real, fake = blobs(6, 0), blobs(6, 1, sigma=2)
    options = {"num_patches": 9, "num_directions": 20, "seed": 3}
    found = sliced_wasserstein(real, fake, **options)
    assert found == pytest.approx(slow_distance(real, fake, 9, 20, 3), rel=1e-4)
    assert found == pytest.approx(
        {32: 222.692, 16: 252.622}, rel=1e-3
    )  # frozen with the evaluation


def test_levels_of_the_pyramid():
    assert [level_sides(side) for side in (16, 64, 100, 160, 256)] == [
        [16],
        [64, 32, 16],
        [100, 50, 25],
        [160, 80, 40, 20],
        [256, 128, 64, 32, 16],
    ]
    fine, coarse = laplacian_pyramid(np.full((3, 32, 32), 9.0))
    assert np.abs(fine).max() < 1e-5 and coarse == pytest.approx(9)  # a flat picture has no detail


def test_sliced_wasserstein_of_known_sets():
    real, other = (blobs(120, seed, sigma=2.5) for seed in (0, 1))
    options = {"num_patches": 32, "num_directions": 64}
    same = sliced_wasserstein(real, real[::-1], **options)
    assert same == pytest.approx({32: 0, 16: 0}, abs=1e-3)
    floor = sliced_wasserstein(real, other, **options)
    noisy = as_pictures(other + np.random.default_rng(0).normal(0, 20, other.shape))
    grainy = sliced_wasserstein(real, noisy, **options)
    assert grainy[32] > 3 * floor[32] and grainy[16] < 2 * floor[16]  # noise is in the detail
    one = sliced_wasserstein(real, copies_with_shifts(120, 2), **options)
    assert one[16] > 2 * floor[16]
