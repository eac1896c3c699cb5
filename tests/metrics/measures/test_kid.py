"""KID against its definition, a closed form for Gaussians, and the subset form."""

import numpy as np
import pytest
import torch

from metrics.arithmetic import pairwise
from metrics.measures.kid import kid, kid_of_subsets


def by_definition(x, y):
    def k(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (m * n)


def features(count, width, seed, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((count, width)) + shift).astype(np.float32)


def test_equals_the_double_loop():
    x, y = features(7, 5, 0), features(9, 5, 1, 0.5)
    assert kid(x, y) == pytest.approx(by_definition(x, y), rel=1e-12)


def test_blocks_change_nothing(monkeypatch):
    x, y = features(23, 6, 0), features(17, 6, 1)
    whole = kid(x, y)
    monkeypatch.setattr(pairwise, "BLOCK", 4)
    assert kid(x, y) == pytest.approx(whole, rel=1e-12)


@pytest.mark.slow
def test_unbiased_against_the_closed_form():
    # x ~ N(0, I), y ~ N(mu, I), m = |mu|^2: the polynomial kernel's moments give MMD^2 in closed
    # form.
    width, m, count, repeats = 4, 1.0, 12, 3000
    expected = (
        3 * m / width + 3 * m**2 / width**2 + (m**3 + 6 * m**2 + 3 * m * width + 6 * m) / width**3
    )
    shift = np.full(width, np.sqrt(m / width))
    values = [
        kid(features(count, width, 2 * r), features(count, width, 2 * r + 1, shift))
        for r in range(repeats)
    ]
    error = np.std(values) / np.sqrt(repeats)
    assert abs(np.mean(values) - expected) < 3 * error
    assert (
        3 * error < 0.15 * expected
    )  # the test would see the bias of keeping the diagonal (about 2 / count)


def test_same_distribution_is_about_zero_and_a_shift_is_not():
    same = kid(features(400, 16, 0), features(400, 16, 1))
    moved = kid(features(400, 16, 0), features(400, 16, 1, 0.5))
    assert abs(same) < 0.02 < 0.5 < moved


def test_subsets_of_everything_equal_the_whole_and_are_seeded():
    x, y = features(30, 6, 0), features(40, 6, 1, 0.2)
    assert kid_of_subsets(x[:30], y[:30], num_subsets=2, subset_size=99, seed=0) == (
        pytest.approx(kid(x, y[:30])),
        pytest.approx(0, abs=1e-12),
    )
    first = kid_of_subsets(x, y, num_subsets=5, subset_size=10, seed=3)
    assert first == kid_of_subsets(x, y, num_subsets=5, subset_size=10, seed=3)
    assert first != kid_of_subsets(x, y, num_subsets=5, subset_size=10, seed=4)
    assert first[1] > 0


def test_refuses_what_has_no_estimate():
    with pytest.raises(ValueError, match="at least 2"):
        kid(features(1, 4, 0), features(5, 4, 1))
    with pytest.raises(ValueError, match="width"):
        kid(features(5, 4, 0), features(5, 3, 1))


def test_subsets_equal_torch_fidelitys():
    x, y = features(60, 12, 0).astype(np.float64), features(50, 12, 1, 0.2).astype(np.float64)
    mean, spread = kid_of_subsets(x, y, num_subsets=7, subset_size=20)
    assert (mean, spread) == pytest.approx(
        (0.3427635670492567, 0.07643351941848112), rel=1e-6
    )  # what its 0.4.0 gives
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    expected = theirs.kid_features_to_metric(
        torch.from_numpy(y),
        torch.from_numpy(x),
        kid_subsets=7,
        kid_subset_size=20,
        verbose=False,
        rng_seed=2020,
    )
    assert mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-6)
    assert spread == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-6)
