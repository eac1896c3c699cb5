"""How well pictures fit their captions under a dual encoder: CLIP-S and R-precision.

CLIP-S is the mean cosine between the embeddings of a picture and of its caption, without a factor
or a prefix, as the papers report it. R-precision (Park et al. 2021, "CLIP-R") asks whether the
true caption is nearer to the picture than captions of other pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dnnlib.errors import UserError
from metrics.arithmetic.pairwise import unit_vectors
from metrics.measures.base import Evaluation, Fields, Measure, Session

# Cosines that are equal up to rounding in float64 are ties, whatever the order of their sums.
_TIE = 1e-9


@dataclass(frozen=True, kw_only=True)
class ClipScore(Measure):
    """Mean cosine between a generated picture and its caption."""

    kind = "clip_score"
    better = "high"
    needs_captions = True
    detector: str

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`shuffled` is the score of the same pictures with captions of other items."""
        chosen = session.image_set(evaluation.pictures)
        texts = session.text_features(chosen.prompts, self.detector)
        images = session.generated(evaluation.pictures, self.detector).get_vectors()
        return {
            "value": clip_score(images, texts),
            "shuffled": mismatched_score(images, texts, chosen.items),
        }


@dataclass(frozen=True, kw_only=True)
class RPrecision(Measure):
    """How often the true caption beats `num_distractors` captions of other items of the split.

    With `ratio`, `value` is the score of the generated pictures divided by that of the real ones:
    CLIP-R' of the EIDGAN paper.
    """

    kind = "r_precision"
    better = "high"
    needs_captions = True
    detector: str
    num_distractors: int = 99
    ratio: bool = False

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`real`: the score of the real pictures with the same captions and distractors.

        `prime`: the paper's CLIP-R', which is the score of the generated pictures over `real`.
        """
        pictures = evaluation.pictures
        chosen = session.image_set(pictures)
        pool, pool_from = session.caption_pool(pictures)
        distractors = draw_distractors(
            chosen.items,
            chosen.prompts,
            pool,
            num_distractors=self.num_distractors,
            seed=pictures.seed,
        )
        texts = session.text_features(chosen.prompts, self.detector)
        pool_texts = session.text_features(pool, self.detector)
        images = session.generated(pictures, self.detector).get_vectors()
        value = r_precision(images, texts, pool_texts, distractors)
        reals = session.items_vectors(pictures, self.detector)
        real = None if reals is None else r_precision(reals, texts, pool_texts, distractors)
        prime = value / real if real else None
        fields = {
            "real": real,
            "prime": prime,
            "num_distractors": distractors.shape[1],
            "chance": 1 / (1 + distractors.shape[1]),
            "num_real": len(set(chosen.items)),
            "pool": len(pool),
            "pool_from": pool_from,
        }
        if not self.ratio:
            return {"value": value} | fields
        fields = {"value": prime, "generated": value} | fields
        if prime is None:
            fields["note"] = "the real pictures of these captions are not known, or score zero"
        return fields


def clip_score(images: np.ndarray, texts: np.ndarray) -> float:
    """Mean cosine in [-1, 1] of images [N, d] and texts [N, d], where vector i fits vector i."""
    assert images.shape == texts.shape
    return float((unit_vectors(images) * unit_vectors(texts)).sum(axis=1).mean())


def mismatched_score(images: np.ndarray, texts: np.ndarray, items: Sequence[int]) -> float | None:
    """Mean cosine over all pairs (i, j) whose captions belong to different items of the data set.

    None if there is no such pair. This is the exact mean over all ways to shuffle the prompts, so
    it needs no draw and has no variance.
    """
    images, texts = unit_vectors(images), unit_vectors(texts)
    _, group = np.unique(np.asarray(items), return_inverse=True)
    num_groups = int(group.max()) + 1
    counts = np.bincount(group)
    image_sums, text_sums = (np.zeros((num_groups, x.shape[1])) for x in (images, texts))
    np.add.at(image_sums, group, images)
    np.add.at(text_sums, group, texts)
    num_pairs = len(images) ** 2 - int((counts**2).sum())
    if num_pairs == 0:
        return None
    total = image_sums.sum(axis=0) @ text_sums.sum(axis=0) - (image_sums * text_sums).sum()
    return float(total / num_pairs)


def r_precision(
    images: np.ndarray, true_texts: np.ndarray, pool_texts: np.ndarray, distractors: np.ndarray
) -> float:
    """Share of pictures whose true caption is strictly nearer than each of their distractors.

    images and true_texts: [N, d], in the same order. pool_texts: [M, d]. distractors: [N, K],
    indices into the pool. A tie with a distractor counts as a miss.
    """
    images, true_texts = unit_vectors(images), unit_vectors(true_texts)
    pool_texts = unit_vectors(pool_texts)
    true = (images * true_texts).sum(axis=1)
    hits = [
        cosine > _TIE + (pool_texts[indices] @ image).max()
        for image, cosine, indices in zip(images, true, distractors, strict=True)
    ]
    return float(np.mean(hits))


def draw_distractors(
    items: Sequence[int],
    captions: Sequence[str],
    pool_captions: Sequence[str],
    *,
    num_distractors: int,
    seed: int,
) -> np.ndarray:
    """Indices [N, K] into the pool for pictures with these items and true captions.

    pool_captions[t] is a caption of item t. The item of the picture and captions that read the
    same as the true one are left out, and no index repeats for a picture. K is `num_distractors`,
    or fewer (the same for all pictures) if the pool is too small. The draw is a pure function of
    the seed and the index of the picture. Raises `UserError` if a picture has no distractor.
    """
    import torch

    from torch_utils.rng import generator_for

    words = np.asarray([_normal(caption) for caption in pool_captions], dtype=object)
    drawn = []
    for index, (item, caption) in enumerate(zip(items, captions, strict=True)):
        stream = generator_for("distractors", seed, index)
        order = torch.randperm(len(words), generator=stream).numpy()
        usable = order[(order != item) & (words[order] != _normal(caption))]
        drawn.append(usable[:num_distractors])
    count = min(len(indices) for indices in drawn)
    if count == 0:
        raise UserError(
            "--data: R-precision needs captions that differ from the true one; this split has none"
        )
    return np.stack([indices[:count] for indices in drawn])


def _normal(caption: str) -> str:
    return " ".join(caption.lower().split())
