"""One scorer a measure: asks the session for features or pictures, calls the pure functions, names the extra fields."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from dnnlib.errors import UserError
from metrics.arithmetic.seeded_pairs import differing, sharing
from metrics.arithmetic.similarity import MS_SSIM_MIN_PX, enlarge, ms_ssim, psnr, shrink, ssim, to_unit
from metrics.measures.clip_score import clip_score, mismatched_score
from metrics.measures.cmmd import cmmd
from metrics.measures.frechet import frechet_distance
from metrics.measures.kid import kid, kid_of_subsets
from metrics.measures.lattice import axis_shares, peak
from metrics.measures.manifold import density_coverage, precision_recall
from metrics.measures.motif import likeness, phases
from metrics.measures.nearest_train import Nearest, nearest, threshold
from metrics.measures.prompt_diversity import log_magnitudes, mean_distance
from metrics.measures.retrieval import draw_distractors, r_precision
from metrics.measures.sliced_wasserstein import LEAST_PX, sliced_wasserstein
from metrics.measures.tile_exact import tile_px, tile_views
from metrics.pictures.nearest_sheet import draw_nearest_sheet
from metrics.pictures.ranks import over_ranks
from metrics.pictures.specifications import (
    ClipScore,
    Cmmd,
    DensityCoverage,
    Detail,
    Frechet,
    Kid,
    Lattice,
    Motif,
    NearestTrain,
    PrecisionRecall,
    PromptDiversity,
    Protocol,
    RPrecision,
    ScaleConsistency,
    SlicedWasserstein,
    TileExact,
)
from metrics.session import Session, passes_of
from networks.coordinates import Convention, View
from torch_utils.distributed import on_main

Fields = dict[str, Any]
Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of two batches of pictures


def score(session: Session, protocol: Protocol) -> Fields:
    """The protocol's `value` and its extra fields, JSON-ready, the same on every rank."""
    return _SCORERS[type(protocol.measure)](session, protocol, protocol.measure)


def _frechet(session: Session, protocol: Protocol, measure: Frechet) -> Fields:
    real = session.real(protocol)
    fake = session.generated(protocol.pictures, measure.detector)
    value = frechet_distance(real.with_moments(), fake.with_moments(), session.device)
    return {"value": value, "num_real": real.count or None, "ddof": 1}


def _kid(session: Session, protocol: Protocol, measure: Kid) -> Fields:
    real, fake = _rows(session, protocol, measure.detector)
    return _kid_of(measure, real, fake, session.device) | {"num_real": len(real)}


def _kid_of(measure: Kid, real: np.ndarray, fake: np.ndarray, device: torch.device) -> Fields:
    if measure.num_subsets == 0:
        return {"value": kid(real, fake, device)}
    mean, spread = kid_of_subsets(real, fake, num_subsets=measure.num_subsets, subset_size=measure.subset_size,
                                  device=device)
    return {"value": mean, "spread": spread, "subset_size": min(measure.subset_size, len(real), len(fake))}


def _cmmd(session: Session, protocol: Protocol, measure: Cmmd) -> Fields:
    real, fake = _rows(session, protocol, measure.detector)
    return {"value": cmmd(real, fake, measure.sigma, session.device), "num_real": len(real)}


def _precision_recall(session: Session, protocol: Protocol, measure: PrecisionRecall) -> Fields:
    real, fake = _rows(session, protocol, measure.detector)
    precision, recall = precision_recall(real, fake, measure.k, session.device)
    return {"value": precision, "recall": recall, "num_real": len(real)}


def _density_coverage(session: Session, protocol: Protocol, measure: DensityCoverage) -> Fields:
    real, fake = _rows(session, protocol, measure.detector)
    density, coverage = density_coverage(real, fake, measure.k, session.device)
    return {"value": density, "coverage": coverage, "num_real": len(real)}


def _detail(session: Session, protocol: Protocol, measure: Detail) -> Fields:
    """`enlarged`: the KID of renders at S, enlarged. Where `value` is not below it, the detail is not real."""
    real = session.real(protocol).with_rows()
    values = [kid(real, session.generated(pictures, measure.detector).with_rows(), session.device)
              for pictures in passes_of(protocol)]  # native, then enlarged
    return {"value": values[0], "enlarged": values[1], "num_real": len(real)}


def _clip_score(session: Session, protocol: Protocol, measure: ClipScore) -> Fields:
    detector, chosen = measure.detector, session.image_set(protocol.pictures)
    texts = session.text_features(chosen.prompts, detector)
    images = session.generated(protocol.pictures, detector).with_rows()
    return {"value": clip_score(images, texts), "shuffled": mismatched_score(images, texts, chosen.items)}


def _r_precision(session: Session, protocol: Protocol, measure: RPrecision) -> Fields:
    """`real`: the real pictures with the same captions and distractors; `prime`: the paper's CLIP-R', value / real."""
    pictures = protocol.pictures
    chosen = session.image_set(pictures)
    pool, pool_from = session.caption_pool(pictures)
    distractors = draw_distractors(chosen.items, chosen.prompts, pool,
                                   num_distractors=measure.num_distractors, seed=pictures.seed)
    texts = session.text_features(chosen.prompts, measure.detector)
    pool_texts = session.text_features(pool, measure.detector)
    images = session.generated(pictures, measure.detector).with_rows()
    value = r_precision(images, texts, pool_texts, distractors)
    reals = session.real_items(pictures, measure.detector)
    real = None if reals is None else r_precision(reals, texts, pool_texts, distractors)
    prime = value / real if real else None
    fields = {
        "real": real, "prime": prime, "num_distractors": distractors.shape[1], "chance": 1 / (1 + distractors.shape[1]),
        "num_real": len(set(chosen.items)), "pool": len(pool), "pool_from": pool_from,
    }
    if measure.ratio:
        note = {} if prime is not None else {"note": "the real pictures of these captions are not known, or score zero"}
        return {"value": prime, "generated": value} | fields | note
    return {"value": value} | fields


def _sliced_wasserstein(session: Session, protocol: Protocol, measure: SlicedWasserstein) -> Fields:
    """`parts`: the distance by the side of the level. A seeded draw makes both sides equal."""
    real, fake = _pixels(session, protocol)
    count = min(len(real), len(fake))
    sides = [pictures if len(pictures) == count else
             pictures[np.random.default_rng(0).choice(len(pictures), count, replace=False)]
             for pictures in (real, fake)]
    levels = sliced_wasserstein(*sides, num_patches=measure.num_patches,
                                num_directions=measure.num_directions)
    return {"value": float(np.mean(list(levels.values()))), "unit": "x 1000",
            "parts": {str(side): value for side, value in levels.items()},
            "num_real": len(real), "num_compared": count}


def _lattice(session: Session, protocol: Protocol, measure: Lattice) -> Fields:
    """`parts`: the ratio of each octave, of which `value` is the geometric mean, and the peak."""
    real, fake = _pixels(session, protocol)
    ratios = axis_shares(fake) / axis_shares(real)
    highest, (down, across) = peak(real, fake)
    parts = {"octaves": ratios.tolist(), "peak": highest, "peak_cycles": [down, across]}
    return {"value": float(np.exp(np.log(ratios).mean())), "parts": parts, "num_real": len(real)}


def _motif(session: Session, protocol: Protocol, measure: Motif) -> Fields:
    """`parts`: the likeness of the generated and of the real pictures, whose ratio is `value`."""
    real, fake = _pixels(session, protocol)
    pairs = differing(_prompt_keys(session, protocol), measure.num_pairs)
    if len(pairs) == 0:
        raise UserError("all pictures have one prompt; motif compares pictures of different ones")
    parts = {"generated": likeness(phases(fake), pairs),
             "real": likeness(phases(real), differing(range(len(real)), measure.num_pairs))}
    return {"value": parts["generated"] / parts["real"], "parts": parts, "num_real": len(real)}


def _prompt_diversity(session: Session, protocol: Protocol, measure: PromptDiversity) -> Fields:
    """`parts`: both distances, whose ratio is `value`, and `motif` between seeds of one prompt."""
    real, fake = _pixels(session, protocol)
    pairs = sharing([[key] for key in _prompt_keys(session, protocol)], measure.num_pairs)
    if len(pairs) == 0:
        raise UserError("no two pictures have one prompt; ppd compares them: make the pictures "
                        "with calc_metrics.py gen --metrics ppd")
    real_pairs, compared = sharing(session.real_captions(protocol), measure.num_pairs,
                                   measure.least_real), "of one caption"
    if len(real_pairs) == 0:
        real_pairs, compared = differing(range(len(real)), measure.num_pairs), "any two"
    parts = {"generated": mean_distance(log_magnitudes(fake), pairs),
             "real": mean_distance(log_magnitudes(real), real_pairs),
             "motif": likeness(phases(fake), pairs) / likeness(phases(real), real_pairs)}
    return {"value": parts["generated"] / parts["real"], "parts": parts,
            "num_real": len(real), "real_pairs": compared}


def _nearest_train(session: Session, protocol: Protocol, measure: NearestTrain) -> Fields:
    """`parts`: median distances to training pictures, their ratio, and the threshold."""
    test, train = (session.real(protocol, reference).with_rows()
                   for reference in protocol.references)
    if test.shape == train.shape and np.array_equal(test, train):
        raise UserError("the real pictures have no train and test split, which this protocol "
                        "compares; give a data set of dataset_tool.py that has both")
    fake = session.generated(protocol.pictures, measure.detector).with_rows()
    of_test, of_fake = (nearest(train, rows, session.device) for rows in (test, fake))
    limit = threshold(of_test)
    if not np.median(of_test.distance):
        raise UserError("half of the test pictures or more are training pictures too; this "
                        "protocol needs splits without copies, which dataset_tool.py makes")
    if session.nearest_sheet:
        _draw_nearest(session, protocol, of_fake, float(np.median(of_test.distance)))
    medians = [float(np.median(found.distance)) for found in (of_fake, of_test)]
    parts = {"generated": medians[0], "test": medians[1], "ratio": medians[0] / medians[1],
             "threshold": limit}
    return {"value": float((of_fake.distance < limit).mean()), "parts": parts,
            "num_real": len(test), "num_train": len(train)}


def _draw_nearest(session: Session, protocol: Protocol, found: Nearest, unit: float) -> None:
    dest, pictures = session.nearest_sheet, session.generated(protocol.pictures, "pixels")
    assert dest is not None
    train, side = session.reals(protocol.references[1])[0], session.subject.resolution
    prompts = session.image_set(protocol.pictures).prompts
    on_main(lambda: draw_nearest_sheet(dest, pictures.with_rows().reshape(-1, 3, side, side),
                                       prompts, train, found, unit))


def _pixels(session: Session, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Real and generated pictures, uint8 [N, 3, S, S]. Raises `UserError` below 16 px a side."""
    side = session.subject.resolution
    if side < LEAST_PX:
        raise UserError(f"pictures of at least {LEAST_PX} px a side are needed, these have {side}; "
                        "leave the protocol out")
    real, fake = _rows(session, protocol, "pixels")
    return real.reshape(-1, 3, side, side), fake.reshape(-1, 3, side, side)


def _prompt_keys(session: Session, protocol: Protocol) -> list[Hashable]:
    """The caption of each generated picture, or its item where there are no captions."""
    chosen = session.image_set(protocol.pictures)
    return [prompt or item for prompt, item in zip(chosen.prompts, chosen.items, strict=True)]


def _rows(session: Session, protocol: Protocol, detector: str) -> tuple[np.ndarray, np.ndarray]:
    """Real and generated rows."""
    real = session.real(protocol).with_rows()
    return real, session.generated(protocol.pictures, detector).with_rows()


def _scale_consistency(session: Session, protocol: Protocol, measure: ScaleConsistency) -> Fields:
    """Each measure for both conventions, and with a bicubic enlargement as the large render (a ceiling).

    MS-SSIM is None for pictures below its five octaves, LPIPS for small ones and where its weights are missing.
    """
    factor, pictures = measure.factor, protocol.pictures
    native = View.square(session.subject.resolution)
    distances: dict[str, Distance] = {"psnr": psnr, "ssim": ssim}
    if native.height >= MS_SSIM_MIN_PX:
        distances["ms_ssim"] = ms_ssim
    fields: Fields = {"psnr": {}, "ssim": {}, "ms_ssim": {}, "lpips": {}}
    try:
        lpips = distances["lpips"] = session.lpips()
        extra = {"lpips_weights_sha256": lpips.weights_sha256}
    except UserError as error:
        extra = {"lpips_note": str(error)}

    def agreement(share: range, view: View) -> list[dict[str, list[float]]]:
        rows = []
        renders = (session.render(pictures, share, size) for size in (view, view.scaled(factor)))
        for pair in zip(*renders, strict=True):
            small, large = (to_unit(image[None]) for image in pair)
            others: dict[str, torch.Tensor] = {view.convention: shrink(large, factor)}
            if view.convention == "centers":
                others["bicubic"] = shrink(enlarge(small, factor), factor)
            rows.append({name: [distance(small, x).item() for distance in distances.values()]
                         for name, x in others.items()})
        return rows

    conventions: tuple[Convention, ...] = ("centers", "endpoints")
    for convention in conventions:
        view = replace(native, convention=convention)
        rows = over_ranks(pictures.num_images, partial(agreement, view=view))
        for name in rows[0]:
            means = np.mean([row[name] for row in rows], axis=0).tolist()
            for distance, mean in zip(distances, means, strict=True):
                fields[distance][name] = mean
    return {"value": fields["psnr"]["centers"], "unit": "dB"} | {name: field or None for name, field in fields.items()} | extra


def _tile_exact(session: Session, protocol: Protocol, measure: TileExact) -> Fields:
    """The largest difference of each view; `value` is the largest of them."""
    pictures = protocol.pictures

    def differences(share: range, view: View) -> list[float]:
        # One picture a batch, so that the tiles are the same for any batch size and number of ranks.
        pieces = (session.render(pictures, share, view, batch_size=1, tile_px=px) for px in (view.height * view.width, tile_px(view)))
        return [(whole - tiled).abs().max().item() for whole, tiled in zip(*pieces, strict=True)]

    largest = {name: max(over_ranks(pictures.num_images, partial(differences, view=view)))
               for name, view in tile_views(session.subject.resolution).items()}
    return {"value": max(largest.values()), "unit": "of a range of 2"} | largest


_SCORERS: dict[type, Callable[[Session, Protocol, Any], Fields]] = {
    Frechet: _frechet,
    Kid: _kid,
    Cmmd: _cmmd,
    PrecisionRecall: _precision_recall,
    DensityCoverage: _density_coverage,
    Detail: _detail,
    ClipScore: _clip_score,
    RPrecision: _r_precision,
    ScaleConsistency: _scale_consistency,
    TileExact: _tile_exact,
    SlicedWasserstein: _sliced_wasserstein,
    Lattice: _lattice,
    Motif: _motif,
    PromptDiversity: _prompt_diversity,
    NearestTrain: _nearest_train,
}
