"""The frozen evaluation protocols. A number without a protocol name is not reported.

A protocol says which pictures are made (split, captions, seeds, view, truncation) and which measure reads them.
A new score is a pure function, a row in `PROTOCOLS`, and a measure class with its scorer where none fits yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError

# Raised whenever a change could move any number; written into every result record.
PROTOCOLS_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Kid:
    """Unbiased polynomial MMD^2 between detector features of generated and of all real pictures of the split.

    num_subsets = 0 takes both whole sets at once; otherwise the mean over that many subsets of subset_size.
    """

    kind: ClassVar[str] = "kid"
    detector: str
    num_subsets: int = 0
    subset_size: int = 0


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """Mean cosine between a generated picture and its caption under a dual encoder."""

    kind: ClassVar[str] = "clip_score"
    detector: str


@dataclass(frozen=True, kw_only=True)
class RPrecision:
    """How often the true caption beats `num_distractors` captions of other pictures of the split."""

    kind: ClassVar[str] = "r_precision"
    detector: str
    num_distractors: int = 99


@dataclass(frozen=True, kw_only=True)
class ScaleConsistency:
    """PSNR and SSIM between a render at S and one at factor * S brought down by an exact area average."""

    kind: ClassVar[str] = "scale_consistency"
    detector: ClassVar[None] = None
    factor: int


@dataclass(frozen=True, kw_only=True)
class TileExact:
    """Largest absolute difference between a view made in one piece and the same made in tiles."""

    kind: ClassVar[str] = "tile_exact"
    detector: ClassVar[None] = None


Measure = Kid | ClipScore | RPrecision | ScaleConsistency | TileExact


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Which pictures are generated: picture i is a pure function of these fields and i.

    view "native" is the trained frame at the snapshot's resolution, sampled at pixel centres. Protocols with equal
    pictures share one pass over the generator.
    """

    split: Literal["train", "test", "all"] = "test"
    num_images: int = 1000
    captions: str = "one a picture, seeded draw; items of the split in seeded order, repeated"
    view: str = "native"
    seed: int = 0
    truncation: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One row of the table: which pictures, and which measure reads them.

    `ceiling` protocols compare a picture with itself, need few, and never take more than their row says. Detectors see
    pictures as uint8, real and generated alike; measures without a detector compare floats.
    """

    name: str
    summary: str
    measure: Measure
    pictures: Pictures = Pictures()
    ceiling: bool = False

    def with_overrides(self, *, num: int | None = None, seed: int | None = None,
                       truncation: float | None = None) -> Protocol:
        """The same protocol with a user's numbers; `overrides_of` tells what differs from the table."""
        if num is not None and num < 2:
            raise UserError(f"--num-images {num}: at least 2 pictures are needed")
        if truncation is not None and not math.isfinite(truncation):
            raise UserError(f"--trunc {truncation}: expected a number, usually between 0 and 1")
        own = self.pictures
        if num is None or (self.ceiling and num > own.num_images):
            num = own.num_images
        return replace(self, pictures=replace(
            own, num_images=num, seed=own.seed if seed is None else seed,
            truncation=own.truncation if truncation is None else truncation))


_ROWS = (
    Protocol(
        name="kid_lite2",
        summary="KID on EfficientNet-lite2 features against all test pictures; a stand-in, never FID",
        measure=Kid(detector="lite2"),
    ),
    Protocol(
        name="clip_s_small",
        summary="mean cosine with the true caption, small dual encoder; `shuffled` beside it",
        measure=ClipScore(detector="small"),
    ),
    Protocol(
        name="clip_s_small_heldout",
        summary="the same, by the dual encoder that never trains a generator",
        measure=ClipScore(detector="small-heldout"),
    ),
    Protocol(
        name="clip_r_small",
        summary="R-precision of the true caption among 99 others, small dual encoder; ratio to real",
        measure=RPrecision(detector="small"),
    ),
    Protocol(
        name="scale_x2",
        summary="PSNR in dB of renders at S and 2S averaged down; SSIM, both conventions, ceiling",
        measure=ScaleConsistency(factor=2), pictures=Pictures(num_images=100), ceiling=True,
    ),
    Protocol(
        name="scale_x4",
        summary="the same with 4S",
        measure=ScaleConsistency(factor=4), pictures=Pictures(num_images=100), ceiling=True,
    ),
    Protocol(
        name="tile_exact",
        summary="largest difference, one piece against tiles: frame, window, window beyond the frame",
        measure=TileExact(), pictures=Pictures(num_images=4), ceiling=True,
    ),
)

PROTOCOLS: dict[str, Protocol] = {row.name: row for row in _ROWS}


def protocols_named(names: Iterable[str]) -> list[Protocol]:
    """Rows of the table by name, in the order given, repeats dropped. Raises `UserError` naming the nearest one."""
    rows = {}
    for name in names:
        if name not in PROTOCOLS:
            raise UserError(f"--metrics {name}: no such protocol; {nearest(name, PROTOCOLS)}")
        rows[name] = PROTOCOLS[name]
    if not rows:
        raise UserError(f"--metrics: name at least one of {', '.join(PROTOCOLS)}")
    return list(rows.values())


def overrides_of(protocol: Protocol) -> dict[str, object]:
    """Fields of the pictures in which `protocol` differs from the table's row of its name."""
    row = PROTOCOLS.get(protocol.name, protocol).pictures
    own = protocol.pictures
    return {f.name: getattr(own, f.name) for f in fields(own) if getattr(own, f.name) != getattr(row, f.name)}
