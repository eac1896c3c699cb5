"""The geometry of each sight: larger frames, the ring around the frame, and windows of it.

Generated and real pictures pass through the same geometry. S is the side of the generated pictures
in pixels; real pictures are as large as the sight needs. Windows are pure functions of
(seed, index).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol as Interface

import torch

from datasets.text_image import Record
from dnnlib.errors import UserError
from metrics.pictures.specifications import Reference, Sight
from networks.coordinates import View
from torch_utils.rng import generator_for, seed_for

_SCALED: dict[Sight, int] = {"x2": 2, "x4": 4, "x8": 8}
_ENLARGED: dict[Sight, int] = {"x2_enlarged": 2, "x4_enlarged": 4, "x8_enlarged": 8}
FACTORS: dict[Sight, int] = _SCALED | _ENLARGED
RING_BOX = (-0.25, -0.25, 1.25, 1.25)
GREY = 127
VARIANTS = 10  # of each picture under "flip_shift"


class RealPictures(Interface):
    """The part of `TextImageDataset` and `PictureFolder` that real pictures need."""

    @property
    def name(self) -> str: ...

    @property
    def content_hash(self) -> str: ...

    @property
    def resolution(self) -> tuple[int, int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def captions(self, index: int) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class RealSight:
    """Real pictures as one sight shows them.

    `read(index)` gives picture number `index` of `count` as uint8 [3, h, w]. `tag` describes the
    pictures in words; keys of the cache and files of statistics hold it.
    """

    count: int
    tag: str
    read: Callable[[int], torch.Tensor]


def real_sight(
    pictures: RealPictures, reference: Reference, side: int, num_patches: int, option: str
) -> RealSight:
    """What is seen of the real pictures beside generated ones of S = `side`.

    num_patches: how many windows are cut for the sight "patch". option: the option and the file of
    the pictures, for messages. Raises `UserError` for pictures of another size.
    """
    tag = reference.tag
    if reference.sight == "patch":
        return _windows(pictures, tag, side, num_patches, option)
    wanted = real_side(reference.sight, side)
    if tuple(pictures.resolution) != (wanted, wanted):
        size = "{}x{}".format(*pictures.resolution)
        raise UserError(
            f"{option}: its pictures are {size}, but {wanted}x{wanted} are needed beside generated "
            f"ones of {side}x{side}; build the data set with --resolution {wanted}x{wanted}"
        )
    if reference.expand == "flip_shift":
        count = VARIANTS * len(pictures)
        return RealSight(count, tag, lambda i: _variant(pictures[i // VARIANTS].image, i))
    if reference.sight == "ring":
        return RealSight(len(pictures), tag, lambda i: paint_frame(pictures[i].image))
    return RealSight(len(pictures), tag, lambda i: pictures[i].image)


def _windows(
    pictures: RealPictures, tag: str, side: int, num_patches: int, option: str
) -> RealSight:
    """Windows over all pictures in turn; the last, incomplete turn goes over a seeded draw.

    They lie in the frame, the largest square in the middle of a picture, as generated ones do.
    """
    large = min(pictures.resolution)
    beside, above = ((length - large) // 2 for length in pictures.resolution)
    if large < 2 * side:
        raise UserError(
            f"{option}: its pictures have {large} px a side, windows of {side} px need at least "
            f"{2 * side}"
        )
    rest = num_patches % len(pictures)
    order = torch.randperm(len(pictures), generator=generator_for("patch order")).tolist()

    def window(index: int) -> torch.Tensor:
        top, left = window_corner("real", index, side, large)
        top, left = top + above, left + beside
        place = index % len(pictures)
        item = order[place] if index >= num_patches - rest else place
        return pictures[item].image[:, top : top + side, left : left + side]

    drawn = ", rest drawn" if rest else ""
    # Names in the cache: entries of square pictures, which never changed, stay valid.
    frame = f", frame at {beside}+{above}" if beside or above else ""
    return RealSight(num_patches, f"{tag}, {num_patches} of {side}{drawn}{frame}", window)


def real_side(sight: Sight, side: int) -> int:
    """The side of real pictures in pixels beside generated ones of S = `side`."""
    if sight == "ring":
        return ring_view(side).height
    return FACTORS.get(sight, 1) * side


def ring_view(side: int) -> View:
    """The frame with a quarter of its side added on each side, at the same scale."""
    return View(height=side * 3 // 2, width=side * 3 // 2, box=RING_BOX)


def paint_frame(image: torch.Tensor) -> torch.Tensor:
    """Pictures uint8 [..., 3, h, w] over `RING_BOX` with the frame painted grey.

    Thus only the ring around the frame is judged.
    """
    image = image.clone()
    height, width = image.shape[-2:]
    image[..., height // 6 : height - height // 6, width // 6 : width - width // 6] = GREY
    return image


def window_corner(kind: str, index: int, side: int, large: int) -> tuple[int, int]:
    """(top, left) of window number `index`, of `side` pixels, in a picture of `large` pixels."""
    room = large - side + 1
    return seed_for("patch row", kind, index) % room, seed_for("patch column", kind, index) % room


def window_view(index: int, seed: int, side: int, large: int) -> View:
    """The window of generated picture number `index`."""
    return window_at(*window_corner(f"generated {seed}", index, side, large), side, large)


def window_at(top: int, left: int, side: int, large: int) -> View:
    """The view of `side` x `side` pixels in a picture of the frame of `large` pixels a side."""
    return View(
        height=side,
        width=side,
        box=(left / large, top / large, (left + side) / large, (top + side) / large),
    )


def _variant(image: torch.Tensor, index: int) -> torch.Tensor:
    """Variant number index mod 10 of a picture.

    Odd variants are mirrored. All but the first two are shifted by up to 1/32 of a side, with the
    edges repeated.
    """
    if index % 2:
        image = image.flip(-1)
    if index % VARIANTS < 2:
        return image
    reach = max(1, image.shape[-1] // 32)
    padded = torch.nn.functional.pad(image[None].float(), (reach,) * 4, mode="replicate")[0].to(
        torch.uint8
    )
    top, left = (seed_for("shift", axis, index) % (2 * reach + 1) for axis in ("row", "column"))
    return padded[:, top : top + image.shape[-2], left : left + image.shape[-1]]
