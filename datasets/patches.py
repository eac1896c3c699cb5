"""Square patches of pictures of any size: which one is drawn, and how it is cut out.

The frame of a picture is the largest square in its middle, from (0, 0) to (1, 1); x runs to the
right and y down. The unit of length is therefore the short side. A picture of 3:2 reaches from
x = -0.25 to x = 1.25. These are the coordinates of `networks.coordinates.View`, so a generator can
draw the same place.

A box is (x0, y0, e): the upper left corner and the side of a square, in frame units. A patch of P
pixels that covers the side e shows the picture as if its short side had P / e pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image

from dnnlib.bounds import NotNegativeInt, Probability, check_bounds
from dnnlib.errors import UserError
from torch_utils.rng import generator_for

Box = tuple[float, float, float]
Filter = Literal["lanczos", "hamming"]
FRAME: Box = (0.0, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """Training on patches of pictures of any size, after AnyresGAN (Chai et al. 2022).

    side: side of a patch in pixels, the size that D reads; 0 = off, D reads whole pictures.
    scale: least and largest scale s, at least 1. A patch shows the picture as if its short side
        had s * side pixels. log(s) is uniform. A picture is never enlarged: for a picture whose
        short side has fewer than s * side pixels, the range ends at its size.
    full: probability that the whole frame, at side x side pixels, is shown instead.
    filter: Pillow's filter that resizes a patch. "lanczos" is that of imported photographs. It adds
        halos to the edges of drawings. "hamming" adds none, so a shrunk drawing looks like one that
        was rendered at the small size, and like the mean of several points of G.
    """

    side: NotNegativeInt = 0
    scale: tuple[float, float] = (1.0, 4.0)
    full: Probability = 0.5
    filter: Filter = "lanczos"

    def __post_init__(self) -> None:
        check_bounds(self, "patches.")
        least, most = self.scale
        if not 1 <= least <= most:
            raise UserError(
                f"patches.scale: needs 1 <= least <= largest, got {least:g} and {most:g}; for "
                "example --scale-range 1-4"
            )

    def draw(self, size: tuple[int, int], seed: int, position: int) -> Box:
        """The box that is shown of the picture at a position of training.

        size: (width, height) of the picture in pixels. position: the number of pictures that
        training saw before. The box depends on the arguments alone.
        """
        assert self.side, "patches are off"
        whole, octave, across, down = torch.rand(
            4, dtype=torch.float64, generator=generator_for("patch", seed, position)
        ).tolist()
        if whole < self.full:
            return FRAME
        width, height = size
        short = min(size)
        least, most = (min(scale, short / self.side) for scale in self.scale)
        extent = 1 / (least * (most / least) ** octave)
        corner = [
            (1 - side / short) / 2 + place * (side / short - extent)
            for side, place in ((width, across), (height, down))
        ]
        return corner[0], corner[1], extent


WHOLE_PICTURES = PatchConfig()  # patches are off


def mirrored(box: Box) -> Box:
    """The box that shows the same content in a picture that is flipped horizontally."""
    x0, y0, extent = box
    return 1 - x0 - extent, y0, extent


def cut(image: torch.Tensor, box: Box, side: int, filter: Filter = "lanczos") -> torch.Tensor:
    """The part of a picture, uint8 [3, H, W], that a box shows -> uint8 [3, side, side].

    filter: of Pillow, which resizes the part. Data sets are made with "lanczos", too: the whole
    frame is the picture that an import with `--transform center-crop` stores. A filter also reads
    the pixels beyond the box that it needs, so a patch is a crop of the whole picture after
    resizing.
    """
    height, width = image.shape[1:]
    if box == FRAME and height == width == side:
        return image  # the filter would change nothing
    short = min(height, width)
    x0, y0, extent = (length * short for length in box)
    left, top = x0 + (width - short) / 2, y0 + (height - short) / 2
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).resize(
        (side, side),
        Image.Resampling[filter.upper()],
        box=(
            max(left, 0.0),
            max(top, 0.0),
            min(left + extent, float(width)),
            min(top + extent, float(height)),
        ),
    )
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(side, side, 3).permute(2, 0, 1).contiguous()
