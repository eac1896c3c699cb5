"""CLIP-S and R-precision against values worked out by hand."""

import numpy as np
import pytest

from dnnlib.errors import UserError
from metrics.measures.clip import (
    clip_score,
    draw_distractors,
    mismatched_score,
    r_precision,
    unit_vectors,
)


def test_clip_score_by_hand():
    images = np.array([[3.0, 4.0], [1.0, 0.0]], dtype=np.float32)
    texts = np.array([[4.0, 3.0], [0.0, 2.0]], dtype=np.float32)
    assert clip_score(images, texts) == pytest.approx((24 / 25 + 0) / 2)
    assert clip_score(10 * images, texts) == pytest.approx(0.48)  # lengths do not matter


def test_zero_rows_count_as_zero():
    assert clip_score(np.zeros((1, 3)), np.ones((1, 3))) == 0


def test_mismatched_score_is_the_mean_over_all_pairs_of_different_items():
    rng = np.random.default_rng(0)
    images, texts, items = (
        rng.standard_normal((7, 4)),
        rng.standard_normal((7, 4)),
        [0, 1, 2, 3, 0, 1, 2],
    )
    x, t = unit_vectors(images), unit_vectors(texts)
    pairs = [x[i] @ t[j] for i in range(7) for j in range(7) if items[i] != items[j]]
    assert mismatched_score(images, texts, items) == pytest.approx(np.mean(pairs), rel=1e-12)


def test_mismatched_score_of_one_item_is_undefined():
    assert mismatched_score(np.ones((3, 2)), np.ones((3, 2)), [5, 5, 5]) is None


def test_r_precision_by_hand():
    images = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    true = np.array([[1.0, 0.1], [1.0, 1.0], [0.5, 0.5]])
    pool = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    # Picture 0 wins against both; picture 1 loses to pool 0; picture 2 (true cosine 0.71) ties with
    # pool 1.
    distractors = np.array([[0, 1], [0, 2], [0, 1]])
    assert r_precision(images, true, pool, distractors) == pytest.approx(1 / 3)
    assert r_precision(images[2:], true[2:], pool, np.array([[0]])) == 1


def test_r_precision_of_equal_features_is_zero():
    rows = np.ones((6, 8), dtype=np.float32)
    assert r_precision(rows, rows, rows, np.array([[1, 2]] * 6)) == 0


def test_distractors_depend_on_seed_and_picture_only():
    pool = [f"caption {i}" for i in range(150)]
    items, captions = [3, 3, 7], ["caption 3", "caption 3", "another caption of 7"]
    drawn = draw_distractors(items, captions, pool, num_distractors=99, seed=0)
    assert drawn.shape == (3, 99)
    for item, row in zip(items, drawn, strict=True):
        assert len(set(row)) == 99 and item not in row
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(
        draw_distractors(items[:2], captions[:2], pool, num_distractors=99, seed=0), drawn[:2]
    )
    assert not np.array_equal(
        draw_distractors(items, captions, pool, num_distractors=99, seed=1), drawn
    )


def test_captions_that_read_the_same_are_no_distractors():
    pool = ["a cat", "A  cat", "a dog", "a cow"]
    drawn = draw_distractors([0, 2], ["a cat", "a dog"], pool, num_distractors=99, seed=0)
    assert drawn.shape == (2, 2)  # fewer than asked for, and equally many for all
    assert set(drawn[0]) == {2, 3}
    with pytest.raises(UserError, match="captions that differ"):
        draw_distractors([0], ["a cat"], ["a cat", "a cat"], num_distractors=9, seed=0)
