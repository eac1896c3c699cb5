"""One scorer a measure: asks the session for features or pictures, calls the pure functions, names the extra fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from metrics.clip_score import clip_score, mismatched_score
from metrics.image_sets import caption_pool
from metrics.kid import kid, kid_of_subsets
from metrics.protocols import ClipScore, Kid, Protocol, RPrecision, ScaleConsistency, TileExact
from metrics.ranks import over_ranks
from metrics.retrieval import draw_distractors, r_precision
from metrics.scale_consistency import MS_SSIM_MIN_PX, enlarge, ms_ssim, psnr, shrink, ssim, to_unit
from metrics.session import Session
from metrics.tile_exactness import tile_px, tile_views
from networks.coordinates import View

Fields = dict[str, Any]


def score(session: Session, protocol: Protocol) -> Fields:
    """The protocol's `value` and its extra fields, JSON-ready, the same on every rank."""
    return _SCORERS[type(protocol.measure)](session, protocol)


def _kid(session: Session, protocol: Protocol) -> Fields:
    measure = protocol.measure
    real = session.real_features(protocol.pictures.split, measure.detector)
    fake = session.generated_features(protocol.pictures, measure.detector)
    if measure.num_subsets == 0:
        return {"value": kid(real, fake), "num_real": len(real)}
    mean, spread = kid_of_subsets(real, fake, num_subsets=measure.num_subsets, subset_size=measure.subset_size,
                                  seed=protocol.pictures.seed)
    return {"value": mean, "spread": spread, "num_real": len(real)}


def _clip_score(session: Session, protocol: Protocol) -> Fields:
    detector, chosen = protocol.measure.detector, session.image_set(protocol.pictures)
    images = session.generated_features(protocol.pictures, detector)
    texts = session.text_features(chosen.prompts, detector)
    return {"value": clip_score(images, texts), "shuffled": mismatched_score(images, texts, chosen.items)}


def _r_precision(session: Session, protocol: Protocol) -> Fields:
    """`real`: the real pictures with the same captions and distractors; `prime`: the paper's CLIP-R', value / real."""
    measure, pictures = protocol.measure, protocol.pictures
    chosen = session.image_set(pictures)
    pool = caption_pool(session.dataset(pictures.split), seed=pictures.seed)
    distractors = draw_distractors(chosen.items, chosen.prompts, pool,
                                   num_distractors=measure.num_distractors, seed=pictures.seed)
    texts = session.text_features(chosen.prompts, measure.detector)
    pool_texts = session.text_features(pool, measure.detector)
    fake_images = session.generated_features(pictures, measure.detector)
    real_images = session.real_features(pictures.split, measure.detector)[list(chosen.items)]
    value, real = (r_precision(images, texts, pool_texts, distractors) for images in (fake_images, real_images))
    return {
        "value": value, "real": real, "prime": value / real if real else None,
        "num_distractors": distractors.shape[1], "chance": 1 / (1 + distractors.shape[1]),
        "num_real": len(set(chosen.items)),
    }


def _scale_consistency(session: Session, protocol: Protocol) -> Fields:
    """`psnr`, `ssim` and `ms_ssim` for both conventions, and with a bicubic enlargement as the large render (a ceiling).

    MS-SSIM is None for pictures below its five octaves.
    """
    factor, pictures = protocol.measure.factor, protocol.pictures
    native = View.square(session.subject.resolution)
    measures = {"psnr": psnr, "ssim": ssim}
    if native.height >= MS_SSIM_MIN_PX:
        measures["ms_ssim"] = ms_ssim
    fields: Fields = {"psnr": {}, "ssim": {}, "ms_ssim": {}}

    def agreement(share: range, view: View) -> list[dict[str, list[float]]]:
        rows = []
        renders = (session.render(pictures, share, size) for size in (view, view.scaled(factor)))
        for small, large in zip(*renders):
            small, large = to_unit(small[None]), to_unit(large[None])
            others = {view.convention: shrink(large, factor)}
            if view.convention == "centers":
                others["bicubic"] = shrink(enlarge(small, factor), factor)
            rows.append({name: [measure(small, x).item() for measure in measures.values()] for name, x in others.items()})
        return rows

    for convention in ("centers", "endpoints"):
        view = replace(native, convention=convention)
        rows = over_ranks(pictures.num_images, partial(agreement, view=view))
        for name in rows[0]:
            for measure, mean in zip(measures, np.mean([row[name] for row in rows], axis=0).tolist()):
                fields[measure][name] = mean
    fields["ms_ssim"] = fields["ms_ssim"] or None
    return {"value": fields["psnr"]["centers"], "unit": "dB"} | fields


def _tile_exact(session: Session, protocol: Protocol) -> Fields:
    """The largest difference of each view; `value` is the largest of them."""
    pictures = protocol.pictures

    def differences(share: range, view: View) -> list[float]:
        # One picture a batch, so that the tiles are the same for any batch size and number of ranks.
        pieces = (session.render(pictures, share, view, batch_size=1, tile_px=px) for px in (None, tile_px(view)))
        return [(whole - tiled).abs().max().item() for whole, tiled in zip(*pieces)]

    largest = {name: max(over_ranks(pictures.num_images, partial(differences, view=view)))
               for name, view in tile_views(session.subject.resolution).items()}
    return {"value": max(largest.values()), "unit": "of a range of 2"} | largest


_SCORERS: dict[type, Callable[[Session, Protocol], Fields]] = {
    Kid: _kid,
    ClipScore: _clip_score,
    RPrecision: _r_precision,
    ScaleConsistency: _scale_consistency,
    TileExact: _tile_exact,
}
