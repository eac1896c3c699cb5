"""Diversity of one prompt: against a slow formula, and on shifted and tinted copies."""

import numpy as np
import pytest

from metrics.arithmetic.seeded_pairs import differing
from metrics.measures.prompt_diversity import log_magnitudes, mean_distance
from tests.metrics.measures.known_pictures import as_pictures, blobs, slow_spectrum


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
