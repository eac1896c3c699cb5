"""Precision, recall, density, coverage: by hand, by definition, and against torch-fidelity."""

import numpy as np
import pytest
import torch

from metrics.arithmetic import pairwise
from metrics.measures.manifold import density_coverage, precision_recall


def features(count, seed, shift=0.0, width=6):
    return np.random.default_rng(seed).standard_normal((count, width)) + shift


def by_definition(real, fake, k):
    def distance(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    real_radius, fake_radius = (np.sort(distance(x, x), axis=1)[:, k] for x in (real, fake))
    inside_real = distance(real, fake)
    return (
        (inside_real <= real_radius[:, None]).any(0).mean(),
        (inside_real.T <= fake_radius[:, None]).any(0).mean(),
        (inside_real < real_radius[:, None]).sum() / (k * len(fake)),
        (inside_real < real_radius[:, None]).any(1).mean(),
    )


def test_by_hand_on_a_line():
    real, fake = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [10.0], [11.0]])
    # k = 1: real radii 1, 1, 2; fake radii 9.5, 1, 1.
    assert precision_recall(real, fake, k=1) == (pytest.approx(1 / 3), 1.0)
    assert density_coverage(real, fake, k=1) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_by_definition(monkeypatch, k):
    monkeypatch.setattr(pairwise, "BLOCK", 7)
    real, fake = features(40, 0), features(25, 1, 0.7)
    expected = by_definition(real, fake, k)
    assert precision_recall(real, fake, k) + density_coverage(real, fake, k) == pytest.approx(
        expected
    )
    assert precision_recall(real + 1e4, fake + 1e4, k) == pytest.approx(expected[:2])


def test_identical_sets_far_sets_and_dropped_modes():
    real = np.concatenate([features(60, 0), features(60, 1, 20)])
    assert precision_recall(real, real.copy()) == (1, 1)
    assert precision_recall(real, real + 100) == (0, 0) and density_coverage(real, real + 100) == (
        0,
        0,
    )
    half = np.concatenate([features(60, 2), features(60, 3)])
    precision, recall = precision_recall(real, half)
    assert precision > 0.7 and recall < 0.6 and density_coverage(real, half)[1] < 0.6


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="at least 4"):
        precision_recall(features(3, 0), features(9, 1))


def test_equals_torch_fidelity():
    real, fake = features(400, 0, width=32), features(300, 1, 0.3, width=32)
    assert precision_recall(real, fake) == pytest.approx(
        (175 / 300, 243 / 400), rel=1e-6
    )  # what its 0.4.0 gives
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    theirs = prc.prc_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real), verbose=False
    )
    assert precision_recall(real, fake) == pytest.approx(
        (theirs["precision"], theirs["recall"]), rel=1e-6
    )
