"""CLIP-S as the papers report it: the mean cosine between picture and caption embeddings, without factor or prefix.

`mismatched_score` is its zero line: what the same pictures score with captions of other pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def clip_score(images: np.ndarray, texts: np.ndarray) -> float:
    """images [N, d], texts [N, d], row i belongs to row i -> mean cosine in [-1, 1]."""
    assert images.shape == texts.shape
    return float((unit_rows(images) * unit_rows(texts)).sum(axis=1).mean())


def mismatched_score(images: np.ndarray, texts: np.ndarray, items: Sequence[int]) -> float | None:
    """Mean cosine over all pairs (i, j) whose captions come from different dataset items; None when there is no pair.

    This is the exact mean over all ways of shuffling the prompts, so it needs no draw and has no variance of its own.
    """
    images, texts = unit_rows(images), unit_rows(texts)
    _, group = np.unique(np.asarray(items), return_inverse=True)
    num_groups = int(group.max()) + 1
    counts = np.bincount(group)
    image_sums, text_sums = (np.zeros((num_groups, x.shape[1])) for x in (images, texts))
    np.add.at(image_sums, group, images)
    np.add.at(text_sums, group, texts)
    num_pairs = len(images) ** 2 - int((counts ** 2).sum())
    if num_pairs == 0:
        return None
    total = image_sums.sum(axis=0) @ text_sums.sum(axis=0) - (image_sums * text_sums).sum()
    return float(total / num_pairs)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows scaled to length one, in float64; a zero row stays zero and so has cosine 0 with everything."""
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
