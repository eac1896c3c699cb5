"""Cached features of real pictures: a hit equals a miss, and other content is another entry."""

import numpy as np
import pytest
import torch

from datasets.text_image import TextImageDataset
from metrics.features.detectors import load_detector
from metrics.features.moments import moments_of
from metrics.features.references import reference_features
from metrics.features.wants import MOMENTS, VECTORS
from metrics.measures.base import Evaluation
from metrics.measures.kid import Kid
from metrics.pictures.reading import Compute
from metrics.pictures.sights import real_sight
from metrics.pictures.specifications import Reference
from metrics.runner import evaluate

CPU = torch.device("cpu")


class Counting:
    """The toy detector, counting pictures."""

    def __init__(self):
        self.inner = load_detector("toy", CPU)
        self.name, self.weights_sha256, self.resize = (
            "toy",
            self.inner.weights_sha256,
            self.inner.resize,
        )
        self.count = 0

    def __call__(self, images):
        self.count += len(images)
        return self.inner(images)


def features(path, cache_dir, detector, split="test", batch_size=5, wants=VECTORS):
    dataset = TextImageDataset(path, split=split)
    sight = real_sight(dataset, Reference(split=split), 16, 0, "--data")
    found = reference_features(
        sight, dataset.content_hash, detector, wants, Compute(CPU, batch_size), cache_dir
    )
    return found.vectors if wants == VECTORS else found


def test_another_version_of_the_evaluations_reads_no_kept_features(
    subject, archive, encoders, tmp_path, monkeypatch
):
    row = Evaluation(name="kid_toy", summary="", measure=Kid(detector="toy"))
    for version in (1, 2):
        monkeypatch.setattr("metrics.runner.PROTOCOLS_VERSION", version)
        next(evaluate(subject, archive, [row], num=6, encoders=encoders, cache_dir=tmp_path))
    kept = sorted(path.parent.name for path in tmp_path.rglob("*.npz"))
    assert kept == ["version-1", "version-2"]


def test_moments_are_kept_small_and_vectors_serve_them(archive, tmp_path):
    detector = Counting()
    first = features(archive, tmp_path / "a", detector, wants=MOMENTS)
    assert first.vectors is None and first.count == 12
    again = features(archive, tmp_path / "a", detector, wants=MOMENTS, batch_size=7)
    assert detector.count == 12 and np.array_equal(
        again.moments.covariance, first.moments.covariance
    )
    vectors = features(archive, tmp_path / "b", detector)
    assert np.allclose(first.moments.covariance, moments_of(vectors).covariance, rtol=1e-6)
    served = features(archive, tmp_path / "b", detector, wants=MOMENTS)
    assert detector.count == 24 and np.allclose(served.get_moments().mean, first.moments.mean)


def test_hit_equals_miss(archive, tmp_path):
    detector = Counting()
    without = features(archive, None, detector)
    miss = features(archive, tmp_path / "new" / "folder", detector)
    assert detector.count == 24
    hit = features(archive, tmp_path / "new" / "folder", detector, batch_size=3)
    assert detector.count == 24
    assert np.array_equal(hit, miss) and np.array_equal(miss, without) and hit.dtype == np.float32
    dataset = TextImageDataset(archive, split="test")
    assert np.allclose(hit[7], detector.inner(dataset[7].image[None]).numpy(), atol=1e-6)


@pytest.mark.parametrize("change", ["content", "split", "weights", "resize"])
def test_anything_that_matters_is_another_entry(archive, write_pictures, tmp_path, change):
    detector, split = Counting(), "test"
    features(archive, tmp_path, detector)
    if change == "content":
        archive = write_pictures(tmp_path / "other.zip", seed=1)
    elif change == "split":
        split = "train"
    elif change == "weights":
        detector.weights_sha256 = "0" * 64
    else:
        detector.resize = "bilinear"
    before = detector.count
    features(archive, tmp_path, detector, split=split)
    assert detector.count > before


@pytest.mark.parametrize("damage", [b"", b"no zip at all", "half"])
def test_a_damaged_entry_is_replaced(archive, tmp_path, damage):
    detector = Counting()
    good = features(archive, tmp_path, detector)
    (entry,) = tmp_path.glob("*.npz")
    entry.write_bytes(entry.read_bytes()[:200] if damage == "half" else damage)
    assert np.array_equal(features(archive, tmp_path, detector), good)
    assert detector.count == 24
    assert np.array_equal(features(archive, tmp_path, detector), good) and detector.count == 24


def test_evaluate_through_the_cache_gives_the_same_number(archive, subject, encoders, tmp_path):
    row = Evaluation(name="kid_toy", summary="", measure=Kid(detector="toy"))
    values = [
        next(evaluate(subject, archive, [row], num=6, encoders=encoders, cache_dir=tmp_path))[
            "value"
        ]
        for _ in range(2)
    ]
    assert values[0] == values[1] and len(list(tmp_path.rglob("*.npz"))) == 1
