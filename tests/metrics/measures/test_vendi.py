"""Vendi score: closed forms, the plain formula, and sets that lack modes."""

import numpy as np
import pytest

from metrics.measures.vendi import vendi_score


def test_equal_and_orthogonal_vectors():
    assert vendi_score(np.full((7, 5), 3.0)) == pytest.approx(1)
    assert vendi_score(4 * np.eye(6)) == pytest.approx(6)
    assert vendi_score(np.repeat(np.eye(6), 5, 0)) == pytest.approx(6)  # copies add nothing


def test_two_vectors_at_an_angle():
    cosine = 0.6  # the eigenvalues are (1 + cosine) / 2 and (1 - cosine) / 2
    expected = np.exp(-0.8 * np.log(0.8) - 0.2 * np.log(0.2))
    assert vendi_score(np.array([[2.0, 0], [cosine, 0.8]])) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(9, 40), (40, 9)])
def test_equals_the_plain_formula(shape):
    vectors = np.random.default_rng(0).standard_normal(shape).astype(np.float32) + 1
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    values = np.linalg.svd(unit @ unit.T / len(unit), compute_uv=False)
    entropy = -sum(value * np.log(value) for value in values if value > 1e-12)
    assert vendi_score(vectors) == pytest.approx(np.exp(entropy), rel=1e-9)


def test_missing_modes_lower_the_score():
    rng = np.random.default_rng(1)
    modes = rng.standard_normal((8, 30))
    whole = modes[rng.integers(0, 8, 200)] + 0.1 * rng.standard_normal((200, 30))
    half = modes[rng.integers(0, 4, 200)] + 0.1 * rng.standard_normal((200, 30))
    assert vendi_score(half) == pytest.approx(vendi_score(whole) / 2, rel=0.15)
