"""Which pictures an evaluation scores and which real pictures it compares them with.

A sight says how a picture is looked at, for example at its trained size or in windows. This module
imports no torch, so that the table of evaluations can be read at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "test", "all"]
Sight = Literal[
    "native", "x2", "x4", "x8", "x2_enlarged", "x4_enlarged", "x8_enlarged", "ring", "patch"
]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Which pictures are generated. Picture i is a pure function of these fields and i.

    S is the trained resolution of the network in pixels. The sights are:

    - "native": the trained frame at S, sampled at pixel centres.
    - "x2", "x4", "x8": the same frame rendered at 2S, 4S and 8S.
    - "x2_enlarged" and so on: the frame at S, enlarged bicubically to 2S, 4S and 8S.
    - "ring": the box -0.25..1.25 at 1.5 S, with the frame itself painted grey.
    - "patch": a seeded S x S window of the frame, at the scale of the large real pictures.

    Evaluations with equal pictures share one pass over the generator. `seeds_per_prompt` is the
    number of pictures in a row that have the same item and caption; each has a latent of its own.
    """

    split: Split = "test"
    num_images: int = 1000
    captions: str = "one a picture, seeded draw; items of the split in seeded order, repeated"
    sight: Sight = "native"
    seed: int = 0
    truncation: float = 1.0
    seeds_per_prompt: int = 1


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Which real pictures the generated ones are compared with: all of a split, by one sight.

    With `expand` "flip_shift" each picture counts ten times, mirrored and shifted by up to 1/32 of
    a side. The authors of DF-GAN say that they did so for CUB. Sights larger than "native" need
    `--data-large`.
    """

    split: Split = "test"
    sight: Sight = "native"
    expand: Literal["none", "flip_shift"] = "none"

    @property
    def tag(self) -> str:
        """The fields in words, as files of statistics and keys of the cache hold them."""
        return f"{self.split}, {self.sight}, {self.expand}"
