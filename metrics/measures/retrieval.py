"""R-precision (Park et al. 2021, "CLIP-R"): does the true caption win against captions of other pictures?

Distractors are a pure function of (seed, picture index). A tie with a distractor counts as a miss.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dnnlib.errors import UserError
from metrics.measures.clip_score import unit_rows
from torch_utils.rng import generator_for

# Cosines that equal up to float64 rounding are ties, in whatever order they were summed.
_TIE = 1e-9


def r_precision(images: np.ndarray, true_texts: np.ndarray, pool_texts: np.ndarray, distractors: np.ndarray) -> float:
    """Share of pictures whose true caption is strictly nearer than each of their distractors.

    images, true_texts: [N, d], row by row; pool_texts: [M, d]; distractors: [N, K] indices into the pool.
    """
    images, true_texts, pool_texts = unit_rows(images), unit_rows(true_texts), unit_rows(pool_texts)
    true = (images * true_texts).sum(axis=1)
    hits = [own > _TIE + (pool_texts[rows] @ image).max()
            for image, own, rows in zip(images, true, distractors, strict=True)]
    return float(np.mean(hits))


def draw_distractors(items: Sequence[int], captions: Sequence[str], pool_captions: Sequence[str], *,
                     num_distractors: int, seed: int) -> np.ndarray:
    """[N, K] indices into the pool for pictures with these items and true captions, without repeats.

    pool_captions[t] is a caption of item t. The picture's own item and captions that read the same as the true one
    are left out. K is `num_distractors`, or fewer (the same for all) where the pool is too small; at least one.
    """
    words = np.asarray([_normal(caption) for caption in pool_captions], dtype=object)
    rows = []
    for index, (item, caption) in enumerate(zip(items, captions, strict=True)):
        order = torch.randperm(len(words), generator=generator_for("distractors", seed, index)).numpy()
        usable = order[(order != item) & (words[order] != _normal(caption))]
        rows.append(usable[:num_distractors])
    count = min(len(row) for row in rows)
    if count == 0:
        raise UserError("--data: R-precision needs captions that differ from the true one; this split has none")
    return np.stack([row[:count] for row in rows])


def _normal(caption: str) -> str:
    return " ".join(caption.lower().split())
