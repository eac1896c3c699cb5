"""The frozen table of evaluations. A number is never reported without the name of its row.

Names begin with the measure, and a count in a name is the number of generated pictures.
docs/evaluation.md says with which published numbers each row may be compared. A new measure is a
file in `metrics/measures/` and a row here. This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from metrics.measures.base import Evaluation, Measure
from metrics.measures.clip import ClipScore, RPrecision
from metrics.measures.cmmd import Cmmd
from metrics.measures.equivariance import Equivariance
from metrics.measures.frechet import Frechet
from metrics.measures.kid import Detail, Kid
from metrics.measures.lattice import Lattice
from metrics.measures.manifold import DensityCoverage, PrecisionRecall
from metrics.measures.motif import Motif
from metrics.measures.nearest_train import NearestTrain
from metrics.measures.prompt_diversity import PromptDiversity
from metrics.measures.scale_consistency import ScaleConsistency
from metrics.measures.sliced_wasserstein import SlicedWasserstein
from metrics.measures.tile_exact import TileExact
from metrics.measures.vendi import Vendi
from metrics.measures.zoom_consistency import ZoomConsistency
from metrics.pictures.specifications import Pictures, Reference, Sight

# It rises with every change that could move a number. Every record holds it, and the cache keeps
# the features of each version in a folder of its own. Version 2: each generated picture of the
# sight "patch" has a window of its own. Version 3: detail_*_lite2 reads pictures at 256 px and
# more; before, it read them at 128 px.
PROTOCOLS_VERSION = 3

CLIP = "open_clip:ViT-B-32-quickgelu/openai"
HELD_OUT_CLIP = "open_clip:ViT-g-14/laion2b_s12b_b42k"
CMMD_CLIP = "open_clip:ViT-L-14-336-quickgelu/openai"
INCEPTION, INCEPTION_CLEAN, INCEPTION_PYTORCH = (
    "inception",
    "inception:clean",
    "inception:legacy_pytorch",
)


def _rows() -> Iterator[Evaluation]:
    yield from _coco()
    yield from _cub()
    yield from _image_set("10k", "", "any data set", Pictures(num_images=10_000))
    yield Evaluation(
        name="fid10k_clean",
        summary="fid10k with clean-fid's resize",
        pictures=Pictures(num_images=10_000),
        measure=Frechet(detector=INCEPTION_CLEAN),
    )
    yield from _full()
    yield from _text()
    yield from _beyond_the_frame()
    yield from _self_comparisons()
    yield from _without_a_network()
    yield from _embedded()


def _image_set(
    count: str, suffix: str, words: str, pictures: Pictures, **fixed: Any
) -> Iterator[Evaluation]:
    """fid, kid, cmmd, fd_dinov2, pr and dc on one set of pictures."""

    def row(stem: str, meaning: str, measure: Measure) -> Evaluation:
        return Evaluation(
            name=f"{stem}{count}{suffix}",
            summary=f"{meaning}; {words}",
            measure=measure,
            pictures=pictures,
            **fixed,
        )

    yield row(
        "fid", "FID, TF weights, resize of StyleGAN and torch-fidelity", Frechet(detector=INCEPTION)
    )
    yield row(
        "kid",
        "KID x 1, 100 subsets of 1,000, as torch-fidelity",
        Kid(detector=INCEPTION, num_subsets=100, subset_size=1000),
    )
    yield row("cmmd", "CMMD, CLIP ViT-L/14 at 336 px, sigma 10, x 1000", Cmmd(detector=CMMD_CLIP))
    yield row("fd_dinov2_", "Frechet distance on DINOv2 ViT-L/14", Frechet(detector="dinov2"))
    yield row("pr", "precision and recall, Inception, k = 3", PrecisionRecall(detector=INCEPTION))
    yield row("dc", "density and coverage, Inception, k = 5", DensityCoverage(detector=INCEPTION))


def _coco() -> Iterator[Evaluation]:
    pictures = Pictures(num_images=30_000)
    fixed: dict[str, Any] = {"data": "MS-COCO", "resolution": 256}
    yield from _image_set("30k", "_coco256", "COCO val", pictures, **fixed)
    fid = Evaluation(
        name="fid30k_coco256_clean",
        summary="FID with clean-fid's resize; COCO val",
        pictures=pictures,
        measure=Frechet(detector=INCEPTION_CLEAN),
        **fixed,
    )
    yield fid
    yield replace(
        fid,
        name="fid30k_coco256_train",
        summary="FID of val captions against COCO train, as LAFITE's 8.12",
        measure=Frechet(detector=INCEPTION),
        reference=Reference(split="train"),
    )


def _cub() -> Iterator[Evaluation]:
    pictures = Pictures(num_images=30_000)
    fixed: dict[str, Any] = {"data": "CUB", "resolution": 256}
    yield from _image_set("30k", "_cub256", "CUB test, plain", pictures, **fixed)
    yield Evaluation(
        name="fid30k_cub256_dfgan",
        summary="FID, pytorch-fid resize, flipped and shifted CUB test, as DF-GAN",
        pictures=pictures,
        measure=Frechet(detector=INCEPTION_PYTORCH),
        reference=Reference(expand="flip_shift"),
        **fixed,
    )


def _full() -> Iterator[Evaluation]:
    """Against all pictures of the data set, for data without a test split."""
    pictures, reference = Pictures(split="all", num_images=50_000), Reference(split="all")
    yield Evaluation(
        name="fid50k_full",
        summary="FID against all pictures of the data set, as StyleGAN's",
        measure=Frechet(detector=INCEPTION),
        pictures=pictures,
        reference=reference,
    )
    yield Evaluation(
        name="kid_full_lite2",
        summary="kid_lite2 against all pictures; a stand-in, never FID",
        measure=Kid(detector="lite2"),
        pictures=Pictures(split="all"),
        reference=reference,
    )


def _text() -> Iterator[Evaluation]:
    pictures = Pictures(num_images=30_000)
    yield Evaluation(
        name="clip_s",
        summary="CLIP-S of the papers: mean cosine, ViT-B/32",
        measure=ClipScore(detector=CLIP),
        pictures=pictures,
    )
    yield Evaluation(
        name="clip_s_heldout",
        summary="the same, OpenCLIP ViT-g/14: not used in training",
        measure=ClipScore(detector=HELD_OUT_CLIP),
        pictures=pictures,
    )
    yield Evaluation(
        name="clip_r",
        summary="R-precision of the true caption among 99 others, ViT-B/32",
        measure=RPrecision(detector=CLIP),
        pictures=pictures,
    )
    yield Evaluation(
        name="clip_r_prime",
        summary="clip_r over that of the real pictures: the paper's CLIP-R'",
        measure=RPrecision(detector=CLIP, ratio=True),
        pictures=pictures,
    )


def _beyond_the_frame() -> Iterator[Evaluation]:
    scales: tuple[tuple[int, Sight], ...] = ((2, "x2"), (4, "x4"), (8, "x8"))
    for factor, sight in scales:
        pictures, reference = Pictures(sight=sight), Reference(sight=sight)
        words = f"KID at {factor}S, native against S enlarged; --data-large at {factor}S"
        yield Evaluation(
            name=f"detail_{sight}",
            summary=words,
            pictures=pictures,
            reference=reference,
            measure=Detail(detector=INCEPTION, factor=factor),
        )
        yield Evaluation(
            name=f"detail_{sight}_lite2",
            summary=f"{words}; lite2 at 256 px and more",
            pictures=pictures,
            reference=reference,
            measure=Detail(detector="lite2:fine", factor=factor),
        )
    patches, patch = Pictures(sight="patch", num_images=50_000), Reference(sight="patch")
    yield Evaluation(
        name="pfid50k",
        summary="patch FID: random S x S windows at large scale; --data-large",
        measure=Frechet(detector=INCEPTION),
        pictures=patches,
        reference=patch,
    )
    yield Evaluation(
        name="pkid_lite2",
        summary="the same idea for the embedded data: KID, lite2, 1,000 patches",
        measure=Kid(detector="lite2"),
        pictures=Pictures(sight="patch"),
        reference=patch,
    )
    ring = Reference(sight="ring")
    yield Evaluation(
        name="fid_extrapolated",
        summary="FID of the ring outside the frame; --data-large at 1.5 S",
        measure=Frechet(detector=INCEPTION),
        pictures=Pictures(sight="ring", num_images=10_000),
        reference=ring,
    )
    yield Evaluation(
        name="kid_extrapolated_lite2",
        summary="the same idea for the embedded data: KID, lite2",
        measure=Kid(detector="lite2"),
        pictures=Pictures(sight="ring"),
        reference=ring,
    )


def _self_comparisons() -> Iterator[Evaluation]:
    rows: dict[str, tuple[Measure, str]] = {
        "scale_x2": (
            ScaleConsistency(factor=2),
            "PSNR in dB of renders at S and 2S averaged down; SSIM, both conventions, ceiling",
        ),
        "scale_x4": (ScaleConsistency(factor=4), "the same with 4S"),
        "scale_x8": (ScaleConsistency(factor=8), "the same with 8S"),
        "zoom_x4": (
            ZoomConsistency(factor=4),
            "PSNR in dB of a window of a quarter of the side and the same crop of a render at 4S",
        ),
        "eqt": (
            Equivariance(transformation="translation"),
            "EQ-T of StyleGAN3 in dB: translation by whole pixels",
        ),
        "eqt_frac": (
            Equivariance(transformation="fractional_translation"),
            "EQ-T_frac in dB: translation by any offset",
        ),
        "eqr": (
            Equivariance(transformation="rotation"),
            "EQ-R of StyleGAN3 in dB: rotation about the middle",
        ),
    }
    for name, (measure, summary) in rows.items():
        yield Evaluation(
            name=name,
            summary=summary,
            measure=measure,
            pictures=Pictures(num_images=100),
            ceiling=True,
        )
    yield Evaluation(
        name="tile_exact",
        summary="largest difference, one piece against tiles: frame, window, window beyond the "
        "frame",
        measure=TileExact(),
        pictures=Pictures(num_images=4),
        ceiling=True,
    )


def _without_a_network() -> Iterator[Evaluation]:
    """Read from pixels, so that a discriminator on pretrained features cannot meet them."""
    yield Evaluation(
        name="swd",
        measure=SlicedWasserstein(),
        summary="sliced Wasserstein distance x 1000 of Laplacian patches; no network",
    )
    yield Evaluation(
        name="lattice",
        measure=Lattice(),
        summary="energy on the axes of the spectrum over that of real pictures, ideal 1",
    )
    yield Evaluation(
        name="motif",
        measure=Motif(),
        summary="likeness of pictures of different prompts over real ones', ideal 1",
    )
    seeds = Pictures(
        seeds_per_prompt=8,
        captions="one for 8 pictures in a row, seeded draw; "
        "items of the split in seeded order, repeated",
    )
    yield Evaluation(
        name="ppd",
        measure=PromptDiversity(),
        pictures=seeds,
        summary="difference of 8 seeds of a prompt over that of real pictures",
    )


def _embedded() -> Iterator[Evaluation]:
    """Stand-ins that need no download. None of them is FID or CLIP score."""
    yield Evaluation(
        name="kid_lite2",
        summary="KID on EfficientNet-lite2 features against all test pictures; a stand-in, never "
        "FID",
        measure=Kid(detector="lite2"),
    )
    yield Evaluation(
        name="pr_lite2",
        summary="precision and recall on EfficientNet-lite2 features, k = 3; a stand-in",
        measure=PrecisionRecall(detector="lite2"),
    )
    yield Evaluation(
        name="dc_lite2",
        summary="density and coverage on EfficientNet-lite2 features, k = 5; a stand-in",
        measure=DensityCoverage(detector="lite2"),
    )
    yield Evaluation(
        name="nearest_train_lite2",
        measure=NearestTrain(detector="lite2"),
        summary="share of pictures nearer to training ones than 99 % of test pictures",
    )
    yield Evaluation(
        name="vendi_lite2",
        measure=Vendi(detector="lite2"),
        summary="effective number of different pictures over that of as many real ones, lite2",
    )
    yield Evaluation(
        name="clip_s_small",
        summary="mean cosine with the true caption, small dual encoder; `shuffled` beside it",
        measure=ClipScore(detector="small"),
    )
    yield Evaluation(
        name="clip_s_small_heldout",
        summary="the same, by the dual encoder that never trains a generator",
        measure=ClipScore(detector="small-heldout"),
    )
    yield Evaluation(
        name="clip_r_small",
        summary="R-precision of the true caption among 99 others, small dual encoder; ratio to "
        "real",
        measure=RPrecision(detector="small"),
    )


EVALUATIONS: dict[str, Evaluation] = {row.name: row for row in _rows()}
