"""`Warp`: how the content of a picture is moved before a view samples it.

A pixel at the point p of the picture's plane shows the content at `Warp(p)`: an affine map of p,
then a displacement. All points are in frame units, x to the right, y down; the trained frame is
[0, 1] x [0, 1] and its middle is (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError, library_errors
from dnnlib.names import printable

Box = tuple[float, float, float, float]  # x0, y0, x1, y1
Matrix = tuple[float, float, float, float, float, float]
IDENTITY: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
MIDDLE, RADIUS = 0.5, math.sqrt(0.5)  # the circle through the corners of the trained frame


class Displacement(Protocol):
    """Moves points of the plane. Equal displacements compare equal."""

    @property
    def name(self) -> str:
        """What the option `--warp` calls it."""

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where points get their content from; x, y and the result have the same shape."""

    def reach(self, box: Box) -> Box:
        """A box that holds the results for all points of `box`."""


@dataclass(frozen=True)
class Swirl:
    """Turns the content about the middle of the frame by degrees (1 - r / R)^2, r < R.

    r is the distance from the middle, and R = sqrt(1/2) is that of the corners. Beyond R nothing
    moves.
    """

    degrees: float = 120.0
    name = "swirl"

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = x - MIDDLE, y - MIDDLE
        rest = 1 - _radius(x, y) / RADIUS
        angle = math.radians(self.degrees) * rest.clamp(min=0).square()
        sine, cosine = angle.sin(), angle.cos()
        return MIDDLE + cosine * x - sine * y, MIDDLE + sine * x + cosine * y

    def reach(self, box: Box) -> Box:
        return _with_disc(box)


@dataclass(frozen=True)
class Fisheye:
    """Enlarges the middle of the frame: a point at distance r < R shows the content at distance
    r (1 - strength (1 - r^2 / R^2)), in the same direction.

    R = sqrt(1/2) is the distance of the corners from the middle. The middle is enlarged by
    1 / (1 - strength). Beyond R nothing moves.
    """

    strength: float = 0.5
    name = "fisheye"

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = x - MIDDLE, y - MIDDLE
        inside = (1 - (x.square() + y.square()) / RADIUS**2).clamp(min=0)
        factor = 1 - self.strength * inside
        return MIDDLE + factor * x, MIDDLE + factor * y

    def reach(self, box: Box) -> Box:
        return _with_disc(box)


@dataclass(frozen=True)
class Wave:
    """x moves by amplitude sin(2 pi cycles y), y by amplitude sin(2 pi cycles x).

    amplitude: in frame units; cycles: waves a frame.
    """

    amplitude: float = 0.03
    cycles: float = 3.0
    name = "wave"

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        factor = 2 * math.pi * self.cycles
        moved_y = y + self.amplitude * (factor * x).sin()
        return x + self.amplitude * (factor * y).sin(), moved_y

    def reach(self, box: Box) -> Box:
        size = abs(self.amplitude)
        return box[0] - size, box[1] - size, box[2] + size, box[3] + size


@dataclass(frozen=True, eq=False)
class Field:
    """A displacement (dx, dy) in frame units on a grid over the trained frame: [H, W, 2].

    Sample (i, j) lies at the centre of its cell, x = (j + 1/2) / W and y = (i + 1/2) / H. Between
    samples the field is bilinear. Outside the frame it is that of the nearest border sample.
    """

    values: torch.Tensor  # [H, W, 2] float32
    name: str = "field"

    def __post_init__(self) -> None:
        shape = tuple(self.values.shape)
        if (
            len(shape) != 3
            or shape[2] != 2
            or not min(shape)
            or not self.values.is_floating_point()
        ):
            raise UserError(
                f"warp {self.name}: expected floats of shape [H, W, 2], the displacement (dx, dy) "
                f"of every sample; got {str(self.values.dtype)[6:]} of shape {list(shape)}"
            )
        if not self.values.isfinite().all():
            raise UserError(f"warp {self.name}: holds NaN or infinite displacements")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Field) and torch.equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(tuple(self.values.shape))

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        field = self.values.to(x).permute(2, 0, 1)[None]
        places = torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)[None, None] * 2 - 1
        moved = functional.grid_sample(
            field, places, mode="bilinear", padding_mode="border", align_corners=False
        )
        dx, dy = moved.reshape(2, *x.shape)
        return x + dx, y + dy

    def reach(self, box: Box) -> Box:
        (x0, y0), (x1, y1) = (
            find(self.values, dim=(0, 1)).tolist() for find in (torch.amin, torch.amax)
        )
        return box[0] + x0, box[1] + y0, box[2] + x1, box[3] + y1


DISPLACEMENTS: dict[str, Callable[[], Displacement]] = {
    "swirl": Swirl,
    "fisheye": Fisheye,
    "wave": Wave,
}


@dataclass(frozen=True)
class Warp:
    """The content at (a x + b y + c, d x + e y + f) displaced is what the point (x, y) shows.

    matrix: (a, b, c, d, e, f). displacement: None for an affine map alone.
    exact: a generator that reads its lines from a table evaluates them at the coordinates of every
    pixel instead, which is slow and has no error of interpolation.
    """

    matrix: Matrix = IDENTITY
    displacement: Displacement | None = None
    exact: bool = False

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points of the picture -> where their content lies; all have the same shape."""
        a, b, c, d, e, f = self.matrix
        x, y = a * x + b * y + c, d * x + e * y + f
        return (x, y) if self.displacement is None else self.displacement(x, y)

    def reach(self, box: Box) -> Box:
        """A box that holds the content of all points of `box`."""
        a, b, c, d, e, f = self.matrix
        x0, y0, x1, y1 = box
        corners = [(a * x + b * y + c, d * x + e * y + f) for x in (x0, x1) for y in (y0, y1)]
        across, down = zip(*corners, strict=True)
        moved = min(across), min(down), max(across), max(down)
        return moved if self.displacement is None else self.displacement.reach(moved)


def affine(
    *,
    zoom: float = 1.0,
    center: tuple[float, float] = (MIDDLE, MIDDLE),
    rotate: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    shear: float = 0.0,
) -> Matrix:
    """The matrix of a picture that is sheared, rotated and zoomed about `center`, then translated.

    See `networks.coordinates.View.transformed`. Raises `UserError`.
    """
    if not (math.isfinite(zoom) and zoom > 0):
        raise UserError(
            f"zoom {zoom}: must be a finite number above 0; 2 shows everything twice as large"
        )
    for name, values in {"center": center, "translate": translate}.items():
        if not all(map(math.isfinite, values)):
            raise UserError(f"{name} {','.join(map(str, values))}: both numbers must be finite")
    for name, value in {"rotate": rotate, "shear": shear}.items():
        if not math.isfinite(value):
            raise UserError(f"{name} {value}: must be a finite number")
    # A point p of the picture is q = (p - center - translate) / zoom before the zoom, q turned back
    # before the rotation, and so on.
    sine, cosine = _sine_cosine(rotate)
    a, b, d, e = cosine / zoom, -sine / zoom, sine / zoom, cosine / zoom
    a, b = a - shear * d, b - shear * e
    x, y = center[0] + translate[0], center[1] + translate[1]
    return a, b, center[0] - a * x - b * y, d, e, center[1] - d * x - e * y


def after(inner: Matrix, outer: Matrix) -> Matrix:
    """The matrix of p -> inner(outer(p))."""
    a, b, c, d, e, f = inner
    g, h, i, j, k, m = outer
    return (a * g + b * j, a * h + b * k, a * i + b * m + c,
            d * g + e * j, d * h + e * k, d * i + e * m + f)  # fmt: skip


def parse_displacement(text: str) -> Displacement:
    """'swirl', 'fisheye', 'wave', or the path of a .npy file with a `Field`. Raises `UserError`."""
    if text in DISPLACEMENTS:
        return DISPLACEMENTS[text]()
    if not text.lower().endswith(".npy"):
        hint = nearest(text, DISPLACEMENTS)
        raise UserError(f"warp {text!r}: is neither a known warp nor a .npy file; {hint}")
    return read_field(Path(text))


def read_field(path: Path) -> Field:
    """The displacement field of a .npy file: floats [H, W, 2], finite. Raises `UserError`."""

    def refusal(reason: str) -> UserError:
        return UserError(
            f"warp {printable(path)}: is not a readable .npy file of numbers ({reason}); write it "
            "with numpy.save"
        )

    with library_errors(refusal), path.open("rb") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype.kind != "f" or array.ndim != 3 or array.shape[2] != 2:
        shape = list(array.shape)
        raise UserError(
            f"warp {path}: expected floats of shape [H, W, 2], the displacement (dx, dy) of every "
            f"sample; got {array.dtype} of shape {shape}"
        )
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    return Field(torch.from_numpy(array), str(path))


def _radius(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x.square() + y.square()).sqrt()


def _sine_cosine(degrees: float) -> tuple[float, float]:
    """Exact at multiples of 90 degrees."""
    quarters, rest = divmod(degrees, 90.0)
    sine, cosine = math.sin(math.radians(rest)), math.cos(math.radians(rest))
    for _ in range(int(quarters) % 4):
        sine, cosine = cosine, -sine
    return sine, cosine


def _with_disc(box: Box) -> Box:
    """The box that holds `box` and the disc of radius R about the middle of the frame, where they
    meet.
    """
    low, high = MIDDLE - RADIUS, MIDDLE + RADIUS
    if box[0] > high or box[1] > high or box[2] < low or box[3] < low:
        return box
    return min(box[0], low), min(box[1], low), max(box[2], high), max(box[3], high)
