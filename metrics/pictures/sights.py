"""What a protocol looks at besides the trained frame: larger frames, the ring around it, windows of it.

Generated and real pictures pass through the same geometry. S is the side of the generated picture; the real picture is
as large as the sight says. Windows are pure functions of (seed, index).
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

FACTORS: dict[Sight, int] = {"x2": 2, "x4": 4, "x2_enlarged": 2, "x4_enlarged": 4}
# Sights that `Detail` compares.
ENLARGED: dict[Sight, Sight] = {"x2": "x2_enlarged", "x4": "x4_enlarged"}
RING_BOX = (-0.25, -0.25, 1.25, 1.25)
GREY = 127
# Generated windows are made in fixed groups that share one window, so that the network is used in batches.
PATCH_GROUP = 16
VARIANTS = 10  # of a picture under flip_shift


class RealPictures(Interface):
    """The part of `TextImageDataset` and `PictureFolder` that references need."""

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
class RealView:
    """`read(index)` is real picture number index of `count` as uint8 [3, h, w]; `tag` says in words what that is."""

    count: int
    tag: str
    read: Callable[[int], torch.Tensor]


def real_view(pictures: RealPictures, reference: Reference, side: int, num_patches: int, where: str) -> RealView:
    """The real side of a protocol. `where` names the option and the file for the error about a wrong size."""
    tag = f"{reference.split}, {reference.view}, {reference.expand}"
    if reference.view == "patch":
        large = min(pictures.resolution)
        if large < 2 * side:
            raise UserError(f"{where}: its pictures have {large} px a side, windows of {side} px need at least {2 * side}")

        rest = num_patches % len(pictures)  # windows of a part of the pictures
        order = torch.randperm(len(pictures), generator=generator_for("patch order")).tolist()

        def window(index: int) -> torch.Tensor:
            top, left = window_corner("real", index, side, large)
            place = index % len(pictures)
            item = order[place] if index >= num_patches - rest else place
            return pictures[item].image[:, top:top + side, left:left + side]

        drawn = ", rest drawn" if rest else ""
        return RealView(num_patches, f"{tag}, {num_patches} of {side}{drawn}", window)
    wanted = real_side(reference.view, side)
    if tuple(pictures.resolution) != (wanted, wanted):
        size = "{}x{}".format(*pictures.resolution)
        raise UserError(f"{where}: its pictures are {size}, but {wanted}x{wanted} are needed beside generated ones of "
                        f"{side}x{side}; build the data set with --resolution {wanted}x{wanted}")
    if reference.expand == "flip_shift":
        return RealView(VARIANTS * len(pictures), tag, lambda i: _variant(pictures[i // VARIANTS].image, i))
    if reference.view == "ring":
        return RealView(len(pictures), tag, lambda i: paint_frame(pictures[i].image))
    return RealView(len(pictures), tag, lambda i: pictures[i].image)


def real_side(sight: Sight, side: int) -> int:
    """How many pixels a side real pictures have beside generated ones of S = `side`."""
    if sight == "ring":
        return ring_view(side).height
    return FACTORS.get(sight, 1) * side


def ring_view(side: int) -> View:
    """The frame and a quarter of it on each side, at its own scale."""
    return View(height=side * 3 // 2, width=side * 3 // 2, box=RING_BOX)


def paint_frame(image: torch.Tensor) -> torch.Tensor:
    """uint8 [..., 3, h, w] over `RING_BOX` -> the same with the frame itself grey, so that only the ring is judged."""
    image = image.clone()
    height, width = image.shape[-2:]
    image[..., height // 6:height - height // 6, width // 6:width - width // 6] = GREY
    return image


def window_corner(kind: str, index: int, side: int, large: int) -> tuple[int, int]:
    """(top, left) of window number `index` of `side` pixels in a picture of `large`."""
    room = large - side + 1
    return seed_for("patch row", kind, index) % room, seed_for("patch column", kind, index) % room


def window_view(group: int, seed: int, side: int, large: int) -> View:
    """The window of a group of generated pictures, as a view."""
    top, left = window_corner(f"generated {seed}", group, side, large)
    return View(height=side, width=side, box=(left / large, top / large, (left + side) / large, (top + side) / large))


def _variant(image: torch.Tensor, index: int) -> torch.Tensor:
    """Number index mod 10: odd ones mirrored, all but the first two shifted by up to 1/32 of a side, edges repeated."""
    if index % 2:
        image = image.flip(-1)
    if index % VARIANTS < 2:
        return image
    reach = max(1, image.shape[-1] // 32)
    padded = torch.nn.functional.pad(image[None].float(), (reach,) * 4, mode="replicate")[0].to(torch.uint8)
    top, left = (seed_for("shift", axis, index) % (2 * reach + 1) for axis in ("row", "column"))
    return padded[:, top:top + image.shape[-2], left:left + image.shape[-1]]
