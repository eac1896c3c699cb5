"""Moments and the Frechet distance: closed forms, shares, few pictures, and torch-fidelity on the
same features.
"""

import numpy as np
import pytest
import torch

from metrics.features.moments import Moments, MomentSums, moments_of, moments_of_sums
from metrics.measures.frechet import frechet_distance


def features(count, width, seed, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return np.maximum(
        rng.standard_normal((count, width)) @ rng.standard_normal((width, width)) * scale + shift, 0
    )


def gaussian(mean, covariance):
    return Moments(100, np.asarray(mean, float), np.asarray(covariance, float))


def test_moments_are_numpys_and_shares_add_up():
    x = features(101, 7, 0)
    whole = moments_of(x)
    assert np.allclose(whole.mean, x.mean(0), rtol=1e-13) and np.allclose(
        whole.covariance, np.cov(x, rowvar=False), rtol=1e-11
    )
    parts = [MomentSums() for _ in range(4)]  # the last rank gets nothing
    for index, batch in enumerate(torch.from_numpy(x).split(9)):
        parts[index % 3].add(batch)
    merged = moments_of_sums([part.sums() for part in parts])
    assert merged.count == 101
    assert np.allclose(merged.mean, whole.mean, rtol=1e-13) and np.allclose(
        merged.covariance, whole.covariance, rtol=1e-11
    )
    with pytest.raises(ValueError, match="at least two pictures"):
        moments_of(x[:1])


def test_float32_features_are_summed_in_float64():
    x = (np.random.default_rng(0).standard_normal((20000, 3)) + 1000).astype(
        np.float32
    )  # float32 sums would lose it all
    assert np.allclose(
        moments_of(x).covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-7, atol=1e-8
    )


def test_closed_forms():
    a = gaussian([1, 2], np.diag([4.0, 9.0]))
    b = gaussian([3, 2], np.diag([1.0, 16.0]))
    assert frechet_distance(a, b) == pytest.approx(
        4 + (2 - 1) ** 2 + (3 - 4) ** 2
    )  # commuting: squared differences of roots
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    # 2 x 2 with det and trace: tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)).
    c, d = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -1.0], [-1.0, 1.0]])
    product = c @ d
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(gaussian([0, 0], c), gaussian([0, 0], d)) == pytest.approx(
        5 + 6 - 2 * root, rel=1e-12
    )


def test_symmetric_and_unmoved_by_rotation():
    a, b = moments_of(features(300, 12, 0)), moments_of(features(200, 12, 1, shift=0.5))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((12, 12)))[0]
    turned = [Moments(m.count, turn @ m.mean, turn @ m.covariance @ turn.T) for m in (a, b)]
    assert frechet_distance(*turned) == pytest.approx(frechet_distance(a, b), rel=1e-10)


def test_fewer_pictures_than_features():
    # The covariances have rank 19 and 29 of 64; by singular values of the factors the root needs no
    # decomposition of zeros.
    x, y = features(20, 64, 0), features(30, 64, 1)
    (a, m), (b, n) = (((z - z.mean(0)) / np.sqrt(len(z) - 1), z.mean(0)) for z in (x, y))
    exact = (
        ((m - n) ** 2).sum()
        + (a**2).sum()
        + (b**2).sum()
        - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    )
    assert frechet_distance(moments_of(x), moments_of(y)) == pytest.approx(exact, rel=1e-9)
    same = moments_of(x[:1].repeat(5, 0))
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-11)


def test_widths_must_agree():
    with pytest.raises(ValueError, match="width 3 and 4"):
        frechet_distance(moments_of(features(9, 3, 0)), moments_of(features(9, 4, 0)))


def test_equals_torch_fidelity():
    x, y = features(700, 48, 0), features(600, 48, 1, scale=1.1, shift=0.2)
    assert frechet_distance(moments_of(x), moments_of(y)) == pytest.approx(
        254.00788900328007, rel=1e-6
    )  # what its 0.4.0 gives
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    statistics = [fid.fid_features_to_statistics(torch.from_numpy(z)) for z in (x, y)]
    theirs = fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert frechet_distance(moments_of(x), moments_of(y)) == pytest.approx(theirs, rel=1e-6)
