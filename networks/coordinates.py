"""`View`: which part of the plane to sample, how finely, and through which transformation.

This is the one home of the pixel-centre convention. The trained frame is [0, 1] x [0, 1], x to the
right, y down. Sample i of S over a box [a, b] lies at a + (b - a) (i + 1/2) / S, so a picture of 2S
averaged down by 2 x 2 covers exactly the samples of S. `convention="endpoints"` is CREPS' choice
a + (b - a) i / (S - 1), kept so that both can be measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch

from dnnlib.config_codec import to_dict
from dnnlib.errors import UserError
from networks.warps import IDENTITY, MIDDLE, Box, Displacement, Warp, affine, after

MAX_REACH = float(1 << 24)  # frames: beyond it, float32 has whole numbers only
STEP = 2.0**-22  # least distance of neighbouring samples, 4 steps of float32 in the frame
MAX_SIDE_PX, MAX_PICTURE_PX = 1 << 16, 1 << 30  # of one picture; 2^30 pixels take 12 GiB in floats

Convention = Literal["centers", "endpoints"]
Number = TypeVar("Number", float, torch.Tensor)


@dataclass(frozen=True, kw_only=True)
class View:
    """A grid of height x width samples over `box` = (x0, y0, x1, y1) in frame units.

    The box may reach beyond [0, 1] (extrapolation) and need not be square. Height and width are
    free.
    warp: None where the sample at (x, y) shows the content at (x, y), else it shows that at
    warp(x, y). Zoom and translation need no warp: they are another box (`transformed`).
    Raises `UserError` for an empty grid or an empty box.
    """

    height: int
    width: int
    box: Box = (0.0, 0.0, 1.0, 1.0)
    convention: Convention = "centers"
    warp: Warp | None = None

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise UserError(f"size {self.width}x{self.height}: width and height must be at least 1")
        x0, y0, x1, y1 = self.box
        if not (x1 > x0 and y1 > y0 and all(map(math.isfinite, self.box))):
            raise UserError(f"window {','.join(map(str, self.box))}: needs x0 < x1 and y0 < y1")
        _check_reach(self.box)
        if self.convention == "endpoints" and min(self.height, self.width) < 2:
            raise UserError("convention 'endpoints' needs at least 2 samples a side")

    @staticmethod
    def square(resolution: int) -> View:
        """The trained frame at resolution x resolution."""
        return View(height=resolution, width=resolution)

    @staticmethod
    def around_frame(*, width: int, height: int) -> View:
        """A whole picture of this size, whose largest square in the middle is the trained frame."""
        return View(height=height, width=width, box=box_around_frame(width, height))

    def scaled(self, factor: int) -> View:
        """The same box, `factor` times as many samples a side."""
        return replace(self, height=self.height * factor, width=self.width * factor)

    def record(self) -> dict[str, Any]:
        """The fields of a view without a warp, for JSON."""
        assert self.warp is None
        return {name: value for name, value in to_dict(self).items() if name != "warp"}

    def transformed(
        self,
        *,
        zoom: float = 1.0,
        center: tuple[float, float] = (MIDDLE, MIDDLE),
        rotate: float = 0.0,
        translate: tuple[float, float] = (0.0, 0.0),
        shear: float = 0.0,
        warp: Displacement | None = None,
        exact: bool = False,
    ) -> View:
        """The view of the picture after it is transformed, in this order: warp, shear, rotate,
        zoom, translate. The box is cut from the result.

        warp: a displacement of the content (`networks.warps`). shear: a point one frame below
        `center` moves by `shear` frames to the right. rotate: degrees, counter-clockwise. zoom:
        factor of enlargement. Shear, rotation and zoom leave the point `center` where it is.
        translate: (x, y) in frames, to the right and down. Units are frame units, so rotation keeps
        shapes where the box and the grid have one aspect. exact: see `Warp`.
        A view that is already transformed is transformed once more; a displacement has to come
        first. Raises `UserError` for numbers that are not finite, for a zoom of 0 or less and for
        points more than `MAX_REACH` frames away.
        """
        outer = affine(zoom=zoom, center=center, rotate=rotate, translate=translate, shear=shear)
        if warp is not None and self.warp is not None:
            raise UserError(f"warp {warp.name}: must be the first transformation of a view")
        before = self.warp or Warp(displacement=warp)
        before = replace(before, exact=before.exact or exact)
        a, b, c, d, e, f = matrix = after(before.matrix, outer)
        if b or d or not (a > 0 and e > 0):
            moved = replace(self, warp=replace(before, matrix=matrix))
            _check_reach(moved.reach())
            return moved
        x0, y0, x1, y1 = self.box
        box = (a * x0 + c, e * y0 + f, a * x1 + c, e * y1 + f)
        if not (box[0] < box[2] and box[1] < box[3] and all(map(math.isfinite, box))):
            raise UserError(f"zoom {zoom}: nothing is left of the window; take a zoom nearer 1")
        rest = replace(before, matrix=IDENTITY) if before.displacement else None
        moved = replace(self, box=box, warp=rest)
        _check_reach(moved.reach())
        return moved

    def points(
        self, rows: slice, columns: slice, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x and y of the content that the pixels of a crop show.  # [h, w] float32 each"""
        x, y = self.columns(device)[columns], self.rows(device)[rows]
        wide = torch.float32 if device.type == "mps" else torch.float64
        y, x = torch.meshgrid(y.to(wide), x.to(wide), indexing="ij")
        x, y = (x, y) if self.warp is None else self.warp(x, y)
        return x.float(), y.float()

    def check_steps(self) -> None:
        """Raises `UserError` where float32 cannot tell neighbouring samples apart."""
        a, b, _, d, e, _ = IDENTITY if self.warp is None else self.warp.matrix
        across = math.hypot(a, d) * (self.box[2] - self.box[0]) / self.width
        down = math.hypot(b, e) * (self.box[3] - self.box[1]) / self.height
        if not are_distinct(across, down, self.reach()):
            raise UserError(
                f"view: neighbours of its {self.width}x{self.height} pixels lie "
                f"{min(across, down):.1g} frames apart, which coordinates in float32 cannot tell "
                "apart; use a smaller size, a smaller zoom or a larger window"
            )

    def reach(self) -> Box:
        """A box that holds the content of every pixel."""
        return self.box if self.warp is None else self.warp.reach(self.box)

    @property
    def y_axis(self) -> Axis:
        return Axis(self.box[1], self.box[3], self.height, self.convention)

    @property
    def x_axis(self) -> Axis:
        return Axis(self.box[0], self.box[2], self.width, self.convention)

    def rows(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """y of every row.  # [height] float32"""
        return self.y_axis.samples(torch.device(device))

    def columns(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """x of every column.  # [width] float32"""
        return self.x_axis.samples(torch.device(device))


def _check_reach(box: Box) -> None:
    """Raises `UserError` for a view of points that have no exact place in float32."""
    farthest = max(map(abs, box))
    if not (farthest <= MAX_REACH and all(map(math.isfinite, box))):
        raise UserError(
            f"view: reaches {farthest:g} frames away from the trained frame, and at most "
            f"{MAX_REACH:.0f} are possible; take smaller numbers for window, zoom, center, shear "
            "and translate"
        )


def are_distinct(across: float, down: float, box: Box) -> bool:
    """Whether float32 tells samples apart that lie so far apart in x and in y, within `box`."""
    farthest = max(1.0, *map(abs, box))
    return all(STEP * farthest <= step < math.inf for step in (across, down))


def box_around_frame(width: float, height: float) -> Box:
    """The whole of a picture of this shape, whose largest square in the middle is the frame.

    3 and 2 give (-0.25, 0, 1.25, 1).
    """
    side = min(width, height)
    x, y = (width / side - 1) / 2, (height / side - 1) / 2
    return 0.0 - x, 0.0 - y, 1 + x, 1 + y  # 0.0 - x is 0.0 where -x is -0.0


@dataclass(frozen=True)
class Axis:
    """`count` samples over [low, high] in frame units: one side of a `View`.

    A grid of G divides the frame [0, 1] into G cells and goes on beyond it: cell k covers
    [k / G, (k + 1) / G]. Which cells a view needs follows from these four values. They are Python
    numbers, so the answer never waits for a device, and a compiler or a CUDA graph sees a constant.
    """

    low: float
    high: float
    count: int
    convention: Convention

    def samples(self, device: torch.device) -> torch.Tensor:
        """Position of every sample.  # [count] float32"""
        # float64 and one rounding at the end. Where `device` has float64, nothing is copied to it:
        # a copy would wait.
        place = "cpu" if device.type == "mps" else device
        index = torch.arange(self.count, dtype=torch.float64, device=place)
        return self._position(index).to(torch.float32).to(device)

    def _position(self, index: Number) -> Number:
        """In float64, of one sample (a number) or of many (a tensor), by the same operations."""
        fraction = sample_fractions(index, self.count, self.convention)
        return at_fraction(self.low, self.high, fraction)

    @property
    def _intervals(self) -> int:
        """(high - low) / _intervals is the distance between neighbours."""
        return self.count if self.convention == "centers" else self.count - 1

    def cells_under(self, grid: int) -> range | None:
        """The cells of `grid`, a power of two, that hold the samples.

        None where neighbours are a cell or more apart: then sample s has cell floor(s * grid) to
        itself.
        """
        if (self.high - self.low) * grid >= self._intervals:
            return None
        first, last = (math.floor(_float32(self._position(i)) * grid) for i in (0, self.count - 1))
        return range(first, last + 1)

    def cells_at(self, grid: int) -> range | None:
        """The cells of `grid` whose centres are the samples; None where they lie elsewhere."""
        start = self.low * grid - (0.0 if self.convention == "centers" else 0.5)
        if (self.high - self.low) * grid != self._intervals or start != math.floor(start):
            return None
        return range(int(start), int(start) + self.count)


def sample_fractions(index: Number, count: int, convention: Convention) -> Number:
    """Where a sample lies between the ends of its axis, 0 to 1: the convention of pixel centres."""
    return (index + 0.5) / count if convention == "centers" else index / (count - 1)


def at_fraction(low: Any, high: Any, fraction: Number) -> Number:
    """The position between `low` and `high`, numbers or tensors."""
    return low + (high - low) * fraction


def _float32(x: float) -> float:
    """x rounded to the 24 bits of a float32."""
    mantissa, exponent = math.frexp(x)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)


def parse_size(text: str, most: int | None = None) -> tuple[int, int]:
    """'1000x600' -> (width, height) = (1000, 600); '256' -> (256, 256); most: of a side, in pixels.

    Raises `UserError`.
    """
    parts = text.lower().split("x")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 2
    if len(numbers) != 2 or min(numbers) < 1:
        raise UserError(
            f"size {text!r}: expected WIDTHxHEIGHT with both at least 1, for example 1000x600"
        )
    if most is not None and max(numbers) > most:
        raise UserError(f"size {text}: a side may have at most {most} pixels")
    return numbers[0], numbers[1]


def check_picture_size(width: int, height: int) -> None:
    """Raises `UserError` for a picture that no PNG reader would open and no memory hold."""
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PICTURE_PX:
        raise UserError(
            f"size {width}x{height}: a picture has at most {MAX_SIDE_PX} pixels a side and 2^30 "
            "in all; draw "
            "windows of it instead"
        )


def parse_window(text: str) -> Box:
    """'x0,y0,x1,y1' in frame units, for example '-0.25,0,1.25,1', or the shape 'W:H' of a whole
    picture around the frame: '3:2' is the same window. Raises `UserError`.
    """
    shape = ":" in text
    try:
        numbers = tuple(float(part) for part in text.split(":" if shape else ","))
    except ValueError:
        numbers = ()
    if shape:
        positive = len(numbers) == 2 and min(numbers) > 0
        numbers = box_around_frame(*numbers) if positive else ()
    if (
        len(numbers) != 4
        or not all(map(math.isfinite, numbers))
        or numbers[2] <= numbers[0]
        or numbers[3] <= numbers[1]
    ):
        raise UserError(
            f"window {text!r}: expected x0,y0,x1,y1 in frame units with x0 < x1 and y0 < y1, or "
            "the shape W:H of a picture around the frame, for example 3:2"
        )
    return numbers
