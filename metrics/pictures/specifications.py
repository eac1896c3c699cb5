"""What a frozen evaluation protocol is made of: which pictures, against which real ones, read by which measure.

`metrics/evaluations.py` holds the table. A measure says which network looks (`detector`), what it needs of its features
(`needs`: rows or moments) and where its `value` is good (`better`: low, high, or near one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from dnnlib.errors import UserError

Better = Literal["low", "high", "one"]


@dataclass(frozen=True, kw_only=True)
class Frechet:
    """Frechet distance of Gaussians fitted to detector features of generated and real pictures; covariance ddof 1."""

    kind: ClassVar[str] = "frechet"
    better: ClassVar[Better] = "low"
    needs: ClassVar[str] = "moments"
    detector: str


@dataclass(frozen=True, kw_only=True)
class Kid:
    """Unbiased polynomial MMD^2 between detector features of generated and of all real pictures of the split.

    num_subsets = 0 takes both whole sets at once; otherwise the mean over that many subsets of subset_size, drawn as
    torch-fidelity draws them.
    """

    kind: ClassVar[str] = "kid"
    better: ClassVar[Better] = "low"
    needs: ClassVar[str] = "rows"
    detector: str
    num_subsets: int = 0
    subset_size: int = 0


@dataclass(frozen=True, kw_only=True)
class Cmmd:
    """1000 x biased Gaussian MMD^2 between unit CLIP embeddings."""

    kind: ClassVar[str] = "cmmd"
    better: ClassVar[Better] = "low"
    needs: ClassVar[str] = "rows"
    detector: str
    sigma: float = 10.0


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """Shares of pictures inside the other set's k-nearest-neighbour balls; `value` is precision."""

    kind: ClassVar[str] = "precision_recall"
    better: ClassVar[Better] = "high"
    needs: ClassVar[str] = "rows"
    detector: str
    k: int = 3


@dataclass(frozen=True, kw_only=True)
class DensityCoverage:
    """Density and coverage of real k-nearest-neighbour balls; `value` is density."""

    kind: ClassVar[str] = "density_coverage"
    better: ClassVar[Better] = "high"
    needs: ClassVar[str] = "rows"
    detector: str
    k: int = 5


@dataclass(frozen=True, kw_only=True)
class Detail:
    """KID of native renders at factor x S, beside that of renders at S enlarged bicubically; real pictures are that large."""

    kind: ClassVar[str] = "detail"
    better: ClassVar[Better] = "low"
    needs: ClassVar[str] = "rows"
    detector: str
    factor: int


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """Mean cosine between a generated picture and its caption under a dual encoder."""

    kind: ClassVar[str] = "clip_score"
    needs_captions: ClassVar[bool] = True
    better: ClassVar[Better] = "high"
    needs: ClassVar[str] = "rows"
    detector: str


@dataclass(frozen=True, kw_only=True)
class RPrecision:
    """How often the true caption beats `num_distractors` captions of other pictures of the split.

    ratio: `value` is that of the generated over that of the real pictures, CLIP-R' of the EIDGAN paper.
    """

    kind: ClassVar[str] = "r_precision"
    needs_captions: ClassVar[bool] = True
    better: ClassVar[Better] = "high"
    needs: ClassVar[str] = "rows"
    detector: str
    num_distractors: int = 99
    ratio: bool = False


@dataclass(frozen=True, kw_only=True)
class ScaleConsistency:
    """PSNR and SSIM between a render at S and one at factor * S brought down by an exact area average."""

    kind: ClassVar[str] = "scale_consistency"
    better: ClassVar[Better] = "high"
    detector: ClassVar[None] = None
    factor: int


@dataclass(frozen=True, kw_only=True)
class TileExact:
    """Largest absolute difference between a view made in one piece and the same made in tiles."""

    kind: ClassVar[str] = "tile_exact"
    better: ClassVar[Better] = "low"
    detector: ClassVar[None] = None


@dataclass(frozen=True, kw_only=True)
class SlicedWasserstein:
    """Distance of patches on the levels of a Laplacian pyramid (`metrics/sliced_wasserstein.py`).

    The mean over the levels, of equally many pictures on both sides.
    """

    kind: ClassVar[str] = "sliced_wasserstein"
    better: ClassVar[Better] = "low"
    needs: ClassVar[str] = "rows"
    detector: str = "pixels"
    num_patches: int = 128
    num_directions: int = 512


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Energy on the axes of the spectrum over that of real pictures (`metrics/lattice.py`)."""

    kind: ClassVar[str] = "lattice"
    better: ClassVar[Better] = "one"
    needs: ClassVar[str] = "rows"
    detector: str = "pixels"


@dataclass(frozen=True, kw_only=True)
class Motif:
    """Likeness of pictures of different prompts over that of real pictures (`metrics/motif.py`)."""

    kind: ClassVar[str] = "motif"
    better: ClassVar[Better] = "one"
    needs: ClassVar[str] = "rows"
    detector: str = "pixels"
    num_pairs: int = 4000


@dataclass(frozen=True, kw_only=True)
class PromptDiversity:
    """Difference of pictures of one prompt over that of real ones (`metrics/prompt_diversity.py`).

    Real pictures are compared where they have a caption in common, and any two where fewer than
    `least_real` of them have one in common with another one.
    """

    kind: ClassVar[str] = "prompt_diversity"
    better: ClassVar[Better] = "high"
    needs: ClassVar[str] = "rows"
    detector: str = "pixels"
    num_pairs: int = 4000
    least_real: int = 50


@dataclass(frozen=True, kw_only=True)
class NearestTrain:
    """Share of pictures nearer to a training picture than 99 of 100 test pictures are.

    Euclidean distances of detector features (`metrics/nearest.py`).
    """

    kind: ClassVar[str] = "nearest_train"
    also_reads: ClassVar[tuple[Literal["train"], ...]] = ("train",)
    draws_sheet: ClassVar[bool] = True
    better: ClassVar[Better] = "low"
    needs: ClassVar[str] = "rows"
    detector: str


Measure = (Frechet | Kid | Cmmd | PrecisionRecall | DensityCoverage | Detail | ClipScore | RPrecision | ScaleConsistency
           | TileExact | SlicedWasserstein | Lattice | Motif | PromptDiversity | NearestTrain)
Sight = Literal["native", "x2", "x4", "x2_enlarged", "x4_enlarged", "ring", "patch"]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Which pictures are generated: picture i is a pure function of these fields and i.

    view "native" is the trained frame at the snapshot's resolution S, sampled at pixel centres. "x2", "x4": the frame at
    2S, 4S. "x2_enlarged": S enlarged bicubically. "ring": the box -0.25..1.25 at 1.5 S, the frame itself painted grey.
    "patch": a seeded S x S window of the frame at its scale in the large real pictures. Protocols with equal pictures
    share one pass over the generator. seeds_per_prompt: so many pictures in a row have one item,
    one caption and latents of their own.
    """

    split: Literal["train", "test", "all"] = "test"
    num_images: int = 1000
    captions: str = "one a picture, seeded draw; items of the split in seeded order, repeated"
    view: Sight = "native"
    seed: int = 0
    truncation: float = 1.0
    seeds_per_prompt: int = 1


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Which real pictures the generated ones are held against: all of a split, seen as `view` says.

    expand "flip_shift": each picture ten times, mirrored and shifted by up to 1/32 of a side, as DF-GAN's authors say they
    did for CUB. The large views need `--data-large`.
    """

    split: Literal["train", "test", "all"] = "test"
    view: Sight = "native"
    expand: Literal["none", "flip_shift"] = "none"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One row of the table: which pictures, which real ones they are held against, and which measure reads them.

    `data` names the data set that the protocol is defined on (the beginning of its `source`) and `resolution` its side;
    None: any. `ceiling` protocols compare a picture with itself, need few, and never take more than their row says. Detectors see
    pictures as uint8, real and generated alike; measures without a detector compare floats.
    """

    name: str
    summary: str
    measure: Measure
    pictures: Pictures = Pictures()
    reference: Reference = Reference()
    data: str | None = None
    resolution: int | None = None
    ceiling: bool = False

    @property
    def references(self) -> tuple[Reference, ...]:
        """All sets of real pictures that the measure reads, the one to compare with first."""
        others = getattr(self.measure, "also_reads", ())
        return self.reference, *(replace(self.reference, split=split) for split in others)

    @property
    def needs_captions(self) -> bool:
        """Whether the measure compares pictures with their captions."""
        return getattr(self.measure, "needs_captions", False)

    @property
    def draws_sheet(self) -> bool:
        """Whether `--nearest-sheet` shows what the measure found."""
        return getattr(self.measure, "draws_sheet", False)

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
