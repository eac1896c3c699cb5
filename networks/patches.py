"""`Patches`: one square view for each sample, and how the discriminator reads its place and scale.

Training on patches renders another part of the plane for each sample of a batch. Patches have the
coordinates of `networks.coordinates.View`.

The place code tells D where a patch lies and how large it is, as in EpiGRAF (Skorokhodov et al.
2022). Without it D would compare the mixture of all patches: G could then draw the detail of one
scale at another one, and content at a wrong place, as long as the mixture stays the same. AnyresGAN
(Chai et al. 2022) gives the scale to its generator. Ours reads coordinates alone: what a pixel
shows follows from its place, and the frames at all scales are pictures of one function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from networks.coordinates import Convention, View, at_fraction, sample_fractions
from networks.interfaces import TextFeatures
from networks.layers.linear import unit_second_moment
from torch_utils.tensors import to_device

HARMONICS = (1, 2)
PLACE_DIM = 3 * 2 * len(HARMONICS)


@dataclass(frozen=True)
class Patches:
    """N squares of the plane, each sampled by side x side pixels.

    boxes: [N, 3] float64: the upper left corner x0, y0 and the side e of each square, in frame
    units. On the CPU, so that nothing waits for a device, or on the device of a step that runs as
    a CUDA graph, which reads them at a fixed address.
    """

    side: int
    boxes: torch.Tensor
    convention: Convention = "centers"
    warp: ClassVar[None] = None

    def __getitem__(self, rows: slice) -> Patches:
        return replace(self, boxes=self.boxes[rows])

    @property
    def height(self) -> int:
        return self.side

    @property
    def width(self) -> int:
        return self.side

    def scaled(self, factor: int) -> Patches:
        """The same squares, `factor` times as many samples a side."""
        return replace(self, side=self.side * factor)

    def rows(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """y of every row of every patch.  # [N, side] float32"""
        return self._samples(1, device)

    def columns(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """x of every column of every patch.  # [N, side] float32"""
        return self._samples(0, device)

    def _samples(self, axis: int, device: torch.device | str) -> torch.Tensor:
        low = self.boxes[:, axis, None]
        high = low + self.boxes[:, 2, None]
        index = torch.arange(self.side, dtype=torch.float64, device=low.device)
        fractions = sample_fractions(index, self.side, self.convention)
        return to_device(at_fraction(low, high, fractions).to(torch.float32), device)

    def views(self) -> list[View]:
        """The same squares as one view each. Waits for boxes that are on a GPU."""
        return [
            View(
                height=self.side,
                width=self.side,
                box=(x, y, x + extent, y + extent),
                convention=self.convention,
            )
            for x, y, extent in self.boxes.tolist()
        ]

    def codes(self) -> torch.Tensor:
        """What D reads of scale and place: [N, PLACE_DIM] float32 of unit second moment.

        Sines and cosines of the octaves log2(1 / e), one turn in 8 octaves, and of the centre, one
        turn in 2 frames, at the first two harmonics.
        """
        x, y, extent = self.boxes.unbind(dim=1)
        turns = [
            -extent.log2() / 8,
            (x + extent / 2 - 0.5) / 2,
            (y + extent / 2 - 0.5) / 2,
        ]
        phases = torch.stack(
            [2 * math.pi * harmonic * turn for turn in turns for harmonic in HARMONICS], dim=1
        )
        return (torch.cat([phases.sin(), phases.cos()], dim=1) * math.sqrt(2)).to(torch.float32)

    def joined_to(self, text: TextFeatures | None, device: torch.device) -> TextFeatures:
        """What D reads of the patches: `text` with the place codes appended to its sentences.

        text: N texts, whose sentences are brought to unit second moment; None without text.
        """
        codes = to_device(self.codes(), device)
        if text is None:
            nothing = codes.new_zeros(len(codes), 0, 0)
            return TextFeatures(codes, nothing, nothing.sum(dim=2).bool())
        sentence = unit_second_moment(text.sentence.float())
        return replace(text, sentence=torch.cat([sentence, codes], dim=1))
