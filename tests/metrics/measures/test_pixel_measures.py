"""swd, lattice, motif and ppd: against slow formulas, and on sets whose answer is known."""

import zlib

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from metrics.arithmetic.seeded_pairs import differing, sharing
from metrics.measures.lattice import axis_shares, peak
from metrics.measures.motif import GRID, likeness, phases
from metrics.measures.prompt_diversity import log_magnitudes, mean_distance
from metrics.measures.sliced_wasserstein import laplacian_pyramid, level_sides, sliced_wasserstein

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
    assert found == pytest.approx({32: 222.692, 16: 252.622}, rel=1e-3)  # frozen with the protocol


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


def test_axis_shares_equal_the_slow_formula():
    pictures = blobs(3, 0, side=16)
    expected = np.zeros((3, 3))
    for row, picture in zip(expected, pictures, strict=True):
        for number, (low, high) in enumerate(((1, 2), (2, 4), (4, 8))):
            power = {
                f: abs(x) ** 2
                for f, x in slow_spectrum(picture).items()
                if low <= np.hypot(*f) < high
            }
            row[number] = sum(power[f] for f in power if 0 in f) / sum(power.values())
    assert axis_shares(pictures) == pytest.approx(expected.mean(0), rel=1e-9)
    flat = np.full_like(pictures[:1], 77)
    assert axis_shares(np.concatenate([pictures, flat])) == pytest.approx(
        expected.mean(0), rel=1e-9
    )
    with pytest.raises(FloatingPointError, match="flat"):
        axis_shares(flat)


def test_a_planted_lattice_is_seen():
    real, fake = blobs(60, 0), blobs(60, 1)
    assert axis_shares(fake) / axis_shares(real) == pytest.approx(1, abs=0.35)
    assert peak(real, fake)[0] < 3.5
    place = np.arange(32)
    lines = 12 * np.sin(2 * np.pi * place * 6 / 32)
    ruled = as_pictures(fake + lines + lines[:, None])
    ratios = axis_shares(ruled) / axis_shares(real)
    assert ratios[1] > 2 and ratios[0] < 1.3  # 6 cycles of 32 pixels are in the second octave
    found, where = peak(real, ruled)
    assert found > 4 and sorted(map(abs, where)) == [0, 6]
    flat = np.full_like(ruled, 128)
    again, where_again = peak(real, np.concatenate([flat, ruled]))
    assert again == pytest.approx(found) and where_again == where
    dots = as_pictures(
        fake + 24 * np.outer(np.sin(2 * np.pi * place * 5 / 32), np.sin(2 * np.pi * place * 6 / 32))
    )
    found, where = peak(real, dots)  # off the axes: only the peak shows it
    assert found > 4 and tuple(map(abs, where)) == (5, 6)
    assert axis_shares(dots)[1] < 1.2 * axis_shares(fake)[1]


def test_likeness_equals_the_slow_formula():
    pictures = blobs(2, 0, side=16)
    spectra = [
        {
            f: x / abs(x)
            for f, x in slow_spectrum(picture).items()
            if 3 <= np.hypot(*f) and max(map(abs, f)) <= 7
        }
        for picture in pictures
    ]
    shifts, best = np.arange(GRID) / GRID, -1.0
    for down in shifts:
        total = sum(
            spectra[0][f].conj()
            * spectra[1][f]
            * np.exp(2j * np.pi * (f[0] * down + f[1] * shifts))
            for f in spectra[0]
        )
        best = max(best, total.real.max() / len(spectra[0]))
    assert likeness(phases(pictures), np.array([[0, 1]])) == pytest.approx(best, rel=1e-5)


def test_a_common_motif_is_seen_wherever_it_stands():
    real, fake, one = blobs(40, 0), blobs(40, 1), copies_with_shifts(40, 2)
    pairs = differing(range(40), 300)
    base = likeness(phases(real), pairs)
    assert likeness(phases(fake), pairs) == pytest.approx(base, rel=0.05)
    dull = as_pictures(gaussian_filter(fake.astype(float), (0, 0, 1, 1)) * 0.5 + 20)
    assert likeness(phases(dull), pairs) == pytest.approx(base, rel=0.1)  # blur makes nothing alike
    assert likeness(phases(one), pairs) > 2 * base
    same = phases(np.repeat(real[:1], 3, 0))
    assert likeness(same, np.array([[0, 1], [1, 2]])) == pytest.approx(1, abs=1e-4)
    with pytest.raises(FloatingPointError, match="no detail"):
        likeness(phases(np.full((4, 3, 32, 32), 5, np.uint8)), pairs[:1] * 0 + [[0, 1]])


def test_diversity_equals_the_slow_formula():
    pictures, rows = blobs(2, 0, side=16), []
    for picture in pictures:
        magnitude = np.array(
            [
                abs(x)
                for f, x in slow_spectrum(picture).items()
                if f > (0, 0) and -8 not in f and np.hypot(*f) <= 8
            ]
        )
        rows.append(np.log(magnitude + 1e-3 * np.sqrt((magnitude**2).sum())))
        rows[-1] = rows[-1] - rows[-1].mean()
    expected = np.sqrt(np.mean((rows[0] - rows[1]) ** 2))
    assert mean_distance(log_magnitudes(pictures), np.array([[0, 1]])) == pytest.approx(
        expected, rel=1e-9
    )


def test_shifts_and_colours_are_no_diversity():
    pairs = differing(range(40), 300)
    base = mean_distance(log_magnitudes(blobs(40, 0)), pairs)
    assert mean_distance(log_magnitudes(blobs(40, 1)), pairs) == pytest.approx(base, rel=0.05)
    small = np.random.default_rng(0).integers(-2, 3, (40, 2))
    one = blobs(1, 2)[0].astype(float)
    tints = np.random.default_rng(1).uniform(0.5, 1, (40, 3, 1, 1))
    moved = np.stack([np.roll(one, shift, (1, 2)) for shift in small])
    assert mean_distance(log_magnitudes(as_pictures(moved * tints)), pairs) < 0.6 * base
    still = as_pictures(np.repeat(one[None], 40, 0) * tints.mean(1, keepdims=True))
    assert mean_distance(log_magnitudes(still), pairs) < 0.1 * base
    flat = np.full((40, 3, 32, 32), 9, np.uint8)
    assert mean_distance(log_magnitudes(flat), pairs) == 0


def test_pairs():
    pairs = differing(["a", "a", "b", "c"], 50)
    assert len(pairs) == 50 and not {(0, 1), (1, 0)} & set(map(tuple, pairs.tolist()))
    assert (pairs[:, 0] != pairs[:, 1]).all() and len(differing(["a"] * 5, 9)) == 0
    keys = [("x", "y"), ("y",), ("z",), ("x", "x"), ()]
    shared = sharing(keys, 200)
    assert {frozenset(pair) for pair in shared.tolist()} == {frozenset((0, 1)), frozenset((0, 3))}
    assert sharing(keys, 9, at_least=4).shape == sharing([("a",), ("b",)], 9).shape == (0, 2)
