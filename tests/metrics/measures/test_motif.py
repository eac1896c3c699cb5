"""Likeness at the best shift: against a slow formula, and with a common motif."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from metrics.arithmetic.seeded_pairs import differing
from metrics.measures.motif import GRID, likeness, phases
from tests.metrics.measures.known_pictures import (
    as_pictures,
    blobs,
    copies_with_shifts,
    slow_spectrum,
)


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
