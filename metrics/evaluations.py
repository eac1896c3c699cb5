"""The frozen evaluation protocols, by image set. A number without a protocol name is not reported.

Names begin with the measure; a count in a name is the number of generated pictures. docs/evaluation.md says what each
may stand beside. A new score is a pure function, a row here, and a measure with its scorer where none fits yet.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from metrics.pictures.specifications import (
    Better,
    ClipScore,
    Cmmd,
    DensityCoverage,
    Detail,
    Frechet,
    Kid,
    Lattice,
    Motif,
    NearestTrain,
    Pictures,
    PrecisionRecall,
    PromptDiversity,
    Protocol,
    Reference,
    RPrecision,
    ScaleConsistency,
    Sight,
    SlicedWasserstein,
    TileExact,
)

# Raised whenever a change could move any number; written into every result record.
PROTOCOLS_VERSION = 1

CLIP = "open_clip:ViT-B-32-quickgelu/openai"
HELD_OUT_CLIP = "open_clip:ViT-g-14/laion2b_s12b_b42k"
CMMD_CLIP = "open_clip:ViT-L-14-336-quickgelu/openai"
INCEPTION, INCEPTION_CLEAN, INCEPTION_PYTORCH = "inception", "inception:clean", "inception:legacy_pytorch"


def _rows() -> Iterator[Protocol]:
    yield from _coco()
    yield from _cub()
    yield from _image_set("10k", "", "any data set", Pictures(num_images=10_000))
    yield Protocol(name="fid10k_clean", summary="fid10k with clean-fid's resize", pictures=Pictures(num_images=10_000),
                   measure=Frechet(detector=INCEPTION_CLEAN))
    yield from _full()
    yield from _text()
    yield from _beyond_the_frame()
    yield from _self_comparisons()
    yield from _without_a_network()
    yield from _embedded()


def _image_set(count: str, suffix: str, words: str, pictures: Pictures, **fixed: Any) -> Iterator[Protocol]:
    """fid, kid, cmmd, fd_dinov2, pr and dc on one set of pictures."""
    def row(stem: str, meaning: str, measure: Any) -> Protocol:
        return Protocol(name=f"{stem}{count}{suffix}", summary=f"{meaning}; {words}", measure=measure, pictures=pictures, **fixed)

    yield row("fid", "FID, TF weights, resize of StyleGAN and torch-fidelity", Frechet(detector=INCEPTION))
    yield row("kid", "KID x 1, 100 subsets of 1,000, as torch-fidelity", Kid(detector=INCEPTION, num_subsets=100, subset_size=1000))
    yield row("cmmd", "CMMD, CLIP ViT-L/14 at 336 px, sigma 10, x 1000", Cmmd(detector=CMMD_CLIP))
    yield row("fd_dinov2_", "Frechet distance on DINOv2 ViT-L/14", Frechet(detector="dinov2"))
    yield row("pr", "precision and recall, Inception, k = 3", PrecisionRecall(detector=INCEPTION))
    yield row("dc", "density and coverage, Inception, k = 5", DensityCoverage(detector=INCEPTION))


def _coco() -> Iterator[Protocol]:
    pictures = Pictures(num_images=30_000)
    fixed: dict[str, Any] = {"data": "MS-COCO", "resolution": 256}
    yield from _image_set("30k", "_coco256", "COCO val", pictures, **fixed)
    fid = Protocol(name="fid30k_coco256_clean", summary="FID with clean-fid's resize; COCO val", pictures=pictures,
                   measure=Frechet(detector=INCEPTION_CLEAN), **fixed)
    yield fid
    yield replace(fid, name="fid30k_coco256_train", summary="FID of val captions against COCO train, as LAFITE's 8.12",
                  measure=Frechet(detector=INCEPTION), reference=Reference(split="train"))


def _cub() -> Iterator[Protocol]:
    pictures = Pictures(num_images=30_000)
    fixed: dict[str, Any] = {"data": "CUB", "resolution": 256}
    yield from _image_set("30k", "_cub256", "CUB test, plain", pictures, **fixed)
    yield Protocol(name="fid30k_cub256_dfgan", summary="FID, pytorch-fid resize, flipped and shifted CUB test, as DF-GAN",
                   pictures=pictures, measure=Frechet(detector=INCEPTION_PYTORCH),
                   reference=Reference(expand="flip_shift"), **fixed)


def _full() -> Iterator[Protocol]:
    """Against all pictures of the data set, for data without a test split."""
    pictures, reference = Pictures(split="all", num_images=50_000), Reference(split="all")
    yield Protocol(
        name="fid50k_full", summary="FID against all pictures of the data set, as StyleGAN's",
        measure=Frechet(detector=INCEPTION), pictures=pictures, reference=reference)
    yield Protocol(
        name="kid_full_lite2", summary="kid_lite2 against all pictures; a stand-in, never FID",
        measure=Kid(detector="lite2"), pictures=Pictures(split="all"), reference=reference)


def _text() -> Iterator[Protocol]:
    pictures = Pictures(num_images=30_000)
    yield Protocol(name="clip_s", summary="CLIP-S of the papers: mean cosine, ViT-B/32", measure=ClipScore(detector=CLIP),
                   pictures=pictures)
    yield Protocol(name="clip_s_heldout", summary="the same, OpenCLIP ViT-g/14: not used in training",
                   measure=ClipScore(detector=HELD_OUT_CLIP), pictures=pictures)
    yield Protocol(name="clip_r", summary="R-precision of the true caption among 99 others, ViT-B/32",
                   measure=RPrecision(detector=CLIP), pictures=pictures)
    yield Protocol(name="clip_r_prime", summary="clip_r over that of the real pictures: the paper's CLIP-R'",
                   measure=RPrecision(detector=CLIP, ratio=True), pictures=pictures)


def _beyond_the_frame() -> Iterator[Protocol]:
    scales: tuple[tuple[int, Sight], ...] = ((2, "x2"), (4, "x4"))
    for factor, view in scales:
        pictures, reference = Pictures(view=view), Reference(view=view)
        words = f"KID at {factor}S, native against S enlarged; --data-large at {factor}S"
        yield Protocol(name=f"detail_{view}", summary=words, pictures=pictures, reference=reference,
                       measure=Detail(detector=INCEPTION, factor=factor))
        yield Protocol(name=f"detail_{view}_lite2", summary=f"{words}; lite2", pictures=pictures,
                       reference=reference, measure=Detail(detector="lite2", factor=factor))
    patches, patch = Pictures(view="patch", num_images=50_000), Reference(view="patch")
    yield Protocol(name="pfid50k", summary="patch FID: random S x S windows at large scale; --data-large",
                   measure=Frechet(detector=INCEPTION), pictures=patches, reference=patch)
    yield Protocol(name="pkid_lite2", summary="the same idea for the embedded data: KID, lite2, 1,000 patches",
                   measure=Kid(detector="lite2"), pictures=Pictures(view="patch"), reference=patch)
    ring = Reference(view="ring")
    yield Protocol(name="fid_extrapolated", summary="FID of the ring outside the frame; --data-large at 1.5 S",
                   measure=Frechet(detector=INCEPTION), pictures=Pictures(view="ring", num_images=10_000), reference=ring)
    yield Protocol(name="kid_extrapolated_lite2", summary="the same idea for the embedded data: KID, lite2",
                   measure=Kid(detector="lite2"), pictures=Pictures(view="ring"), reference=ring)


def _self_comparisons() -> Iterator[Protocol]:
    yield Protocol(name="scale_x2", summary="PSNR in dB of renders at S and 2S averaged down; SSIM, both conventions, ceiling",
                   measure=ScaleConsistency(factor=2), pictures=Pictures(num_images=100), ceiling=True)
    yield Protocol(name="scale_x4", summary="the same with 4S",
                   measure=ScaleConsistency(factor=4), pictures=Pictures(num_images=100), ceiling=True)
    yield Protocol(name="tile_exact", summary="largest difference, one piece against tiles: frame, window, window beyond the frame",
                   measure=TileExact(), pictures=Pictures(num_images=4), ceiling=True)


def _without_a_network() -> Iterator[Protocol]:
    """Read from pixels, so that a discriminator on pretrained features cannot meet them."""
    yield Protocol(name="swd", measure=SlicedWasserstein(),
                   summary="sliced Wasserstein distance x 1000 of Laplacian patches; no network")
    yield Protocol(name="lattice", measure=Lattice(),
                   summary="energy on the axes of the spectrum over that of real pictures, ideal 1")
    yield Protocol(name="motif", measure=Motif(),
                   summary="likeness of pictures of different prompts over real ones', ideal 1")
    seeds = Pictures(seeds_per_prompt=8, captions="one for 8 pictures in a row, seeded draw; "
                     "items of the split in seeded order, repeated")
    yield Protocol(name="ppd", measure=PromptDiversity(), pictures=seeds,
                   summary="difference of 8 seeds of a prompt over that of real pictures")


def _embedded() -> Iterator[Protocol]:
    """Stand-ins that need no download. None of them is FID or CLIP score."""
    yield Protocol(name="kid_lite2", summary="KID on EfficientNet-lite2 features against all test pictures; a stand-in, never FID",
                   measure=Kid(detector="lite2"))
    yield Protocol(name="pr_lite2", summary="precision and recall on EfficientNet-lite2 features, k = 3; a stand-in",
                   measure=PrecisionRecall(detector="lite2"))
    yield Protocol(name="dc_lite2", summary="density and coverage on EfficientNet-lite2 features, k = 5; a stand-in",
                   measure=DensityCoverage(detector="lite2"))
    yield Protocol(name="nearest_train_lite2", measure=NearestTrain(detector="lite2"),
                   summary="share of pictures nearer to training ones than 99 % of test pictures")
    yield Protocol(name="clip_s_small", summary="mean cosine with the true caption, small dual encoder; `shuffled` beside it",
                   measure=ClipScore(detector="small"))
    yield Protocol(name="clip_s_small_heldout", summary="the same, by the dual encoder that never trains a generator",
                   measure=ClipScore(detector="small-heldout"))
    yield Protocol(name="clip_r_small", summary="R-precision of the true caption among 99 others, small dual encoder; ratio to real",
                   measure=RPrecision(detector="small"))


PROTOCOLS: dict[str, Protocol] = {row.name: row for row in _rows()}


def protocols_named(names: Iterable[str]) -> list[Protocol]:
    """Rows of the table by name, in the order given, repeats dropped. Raises `UserError` naming the nearest one."""
    chosen = {}
    for name in names:
        if name not in PROTOCOLS:
            raise UserError(f"--metrics {name}: no such protocol; {nearest(name, PROTOCOLS)}")
        chosen[name] = PROTOCOLS[name]
    if not chosen:
        raise UserError(f"--metrics: name at least one of {', '.join(PROTOCOLS)}")
    return list(chosen.values())


def lacking(protocol: Protocol, splits: Collection[str], has_captions: bool) -> str | None:
    """What the protocol needs of a data set with these splits and is not there, with the remedy."""
    named = (protocol.pictures.split, *(reference.split for reference in protocol.references))
    split = next((split for split in named if split not in (*splits, "all")), None)
    if split is not None:
        return (f"{split} split; score against all pictures (fid50k_full, kid_full_lite2), or "
                "rebuild it with such a split (coco: val as well; folder: --test-share 0.1)")
    if protocol.needs_captions and not has_captions:
        return "captions, with which this measure compares pictures; leave the measure out"
    return None


def served(protocols: Iterable[Protocol], splits: Collection[str], has_captions: bool,
           ) -> tuple[list[Protocol], dict[str, list[str]]]:
    """The protocols that a data set can serve, and the names of the others by what it lacks."""
    kept: list[Protocol] = []
    others: dict[str, list[str]] = {}
    for protocol in protocols:
        lack = lacking(protocol, splits, has_captions)
        if lack is None:
            kept.append(protocol)
        else:
            others.setdefault(lack, []).append(protocol.name)
    return kept, others


def better(name: str) -> Better:
    """Where that protocol's `value` is good: "low", "high", or near "one".

    Raises `UserError` for names that are not in the table.
    """
    return protocols_named([name])[0].measure.better


def badness(name: str, value: float) -> float:
    """A number that is least for the best `value` of that protocol.

    Near 1, twice as much is as bad as half as much.
    """
    where = better(name)
    if where == "one":
        return abs(math.log(value)) if value > 0 else math.inf
    return value if where == "low" else -value


def overrides_of(protocol: Protocol) -> dict[str, object]:
    """Fields of the pictures in which `protocol` differs from the table's row of its name."""
    row = PROTOCOLS.get(protocol.name, protocol).pictures
    own = protocol.pictures
    return {f.name: getattr(own, f.name) for f in fields(own) if getattr(own, f.name) != getattr(row, f.name)}
