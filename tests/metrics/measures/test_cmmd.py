"""CMMD against its definition and a hand computation."""

import numpy as np
import pytest

from metrics.measures.cmmd import cmmd


def rows(count, seed, shift=0.0):
    return np.random.default_rng(seed).standard_normal((count, 8)) + shift


def by_definition(x, y, sigma):
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))

    def k(a, b):
        return np.mean([[np.exp(-((p - q) ** 2).sum() / (2 * sigma**2)) for q in b] for p in a])

    return 1000 * (k(x, x) + k(y, y) - 2 * k(x, y))


def test_by_hand():
    # Two unit vectors at a right angle: |x - y|^2 = 2.
    assert cmmd(np.array([[3.0, 0]]), np.array([[0, 5.0]])) == pytest.approx(
        1000 * 2 * (1 - np.exp(-2 / 200)), rel=1e-12
    )


@pytest.mark.parametrize("sigma", [1.0, 10.0])
def test_by_definition(monkeypatch, sigma):
    monkeypatch.setattr("metrics.arithmetic.pairwise.BLOCK", 5)
    x, y = rows(13, 0), rows(17, 1, 0.5)
    assert cmmd(x, y, sigma) == pytest.approx(by_definition(x, y, sigma), rel=1e-8)


def test_zero_for_the_same_set_and_free_of_length():
    x, y = rows(50, 0), rows(40, 1, 0.3)
    assert cmmd(x, x) == pytest.approx(0, abs=1e-10) and cmmd(x, y) > 0
    assert cmmd(7 * x, y / 3) == pytest.approx(cmmd(x, y))
    with pytest.raises(ValueError, match="one width"):
        cmmd(x, y[:, :3])
