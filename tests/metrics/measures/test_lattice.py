"""Energy on the axes of the spectrum: against a slow formula, and with planted lattices."""

import numpy as np
import pytest

from metrics.measures.lattice import axis_shares, peak
from tests.metrics.measures.known_pictures import as_pictures, blobs, slow_spectrum


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
