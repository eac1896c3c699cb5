"""One picture at several sizes, side by side, with PSNR of each to the smallest.

PSNR compares the smallest picture with the exact area average of a larger one, as in
`metrics.arithmetic.similarity`. For looking, every picture is enlarged to the side of the largest
one by repeating its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn import functional

from dnnlib.errors import UserError
from metrics.arithmetic.similarity import psnr, shrink, to_unit
from networks.coordinates import View
from networks.interfaces import Codes, Generator
from networks.sampling import render_tiled
from torch_utils.tensors import to_uint8


def parse_sides(text: str) -> list[int]:
    """'64,256,1024' -> [64, 256, 1024], ascending. Raises `UserError`."""
    try:
        sides = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sides = []
    if len(sides) < 2 or sides[0] < 1:
        raise UserError(
            f"--compare-scales {text}: expected at least two sides in pixels, such as 64,256,1024"
        )
    odd = [side for side in sides if side % sides[0]]
    if odd:
        raise UserError(
            f"--compare-scales {text}: {odd[0]} is not a multiple of {sides[0]}, the smallest side"
        )
    return sides


@torch.no_grad()
def scale_strip(
    generator: Generator,
    codes: Codes,
    view: View,
    sides: Sequence[int],
    tile_px: int | None = None,
) -> tuple[torch.Tensor, list[float]]:
    """The strip [3, S, len(sides) * S] uint8, S the largest side, and PSNR in dB of every size but
    the smallest.

    codes: of one picture. sides: ascending multiples of the first. Raises `UserError` for pixels
    that are not finite.
    """
    smallest, shown, decibels = None, [], []
    for side in sides:
        image = render_tiled(
            generator, codes, replace(view, height=side, width=side), tile_px=tile_px
        )
        if not image.isfinite().all():
            raise UserError(
                f"the picture of {side} x {side} is not finite: the network overflows there; take "
                "an earlier snapshot, a --trunc nearer 1 or a --window nearer the frame"
            )
        unit = to_unit(image)
        if smallest is None:
            smallest = unit
        else:
            decibels.append(float(psnr(smallest, shrink(unit, side // sides[0]))))
        size = (sides[-1], sides[-1])
        shown.append(functional.interpolate(to_uint8(image), size, mode="nearest-exact")[0])
    return torch.cat(shown, dim=2), decibels


def scale_facts(sides: Sequence[int], decibels: Sequence[float]) -> dict[str, str]:
    """What the file of a strip says, and the command prints, of its sizes."""
    pairs = zip(sides[1:], decibels, strict=True)
    values = ", ".join(f"{side} px {value:.2f} dB" for side, value in pairs)
    return {
        "size": ",".join(map(str, sides)),
        "psnr": f"{values} (area average against {sides[0]} px)",
        "enlarged": f"to {sides[-1]} px by the nearest pixel",
    }
