"""The options of a command that say which part of the picture it draws: `--window`, `--zoom`, ...

`view_options` adds them to a click command, which then takes one argument `view_options`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from dnnlib.errors import UserError
from dnnlib.files import file_fact

if TYPE_CHECKING:
    from networks.coordinates import View

_OPTIONS = (
    click.option(
        "--window",
        default="0,0,1,1",
        show_default=True,
        metavar="X0,Y0,X1,Y1|W:H",
        help="Part of the plane in frame units; beyond 0..1 is extrapolation. W:H is a whole "
        "picture of this shape around the frame: 3:2 means -0.25,0,1.25,1. The content is "
        "transformed in this order, and the window is cut last: warp, shear, rotate, zoom, "
        "translate.",
    ),
    click.option(
        "--zoom",
        type=float,
        default=1.0,
        show_default=True,
        metavar="F",
        help="Enlarge the content F times; below 1 shows more than the frame.",
    ),
    click.option(
        "--center",
        default="0.5,0.5",
        show_default=True,
        metavar="X,Y",
        help="The point that shear, rotation and zoom leave where it is, in frame units.",
    ),
    click.option(
        "--rotate",
        type=float,
        default=0.0,
        show_default=True,
        metavar="DEG",
        help="Rotate the content by so many degrees, counter-clockwise.",
    ),
    click.option(
        "--translate",
        default="0,0",
        show_default=True,
        metavar="X,Y",
        help="Move the content to the right and down, in frames.",
    ),
    click.option(
        "--shear",
        type=float,
        default=0.0,
        show_default=True,
        metavar="S",
        help="Move a point one frame below the centre S frames to the right.",
    ),
    click.option(
        "--warp",
        metavar="NAME",
        help="Displace the content: swirl, fisheye, wave, or FILE.npy with floats [H, W, 2]. A "
        "point p then shows the content at p + (dx, dy), in frame units. Sample (i, j) of the file "
        "lies at x = (j + 1/2) / W, y = (i + 1/2) / H; between samples the field is bilinear, "
        "outside the frame that of the nearest sample.",
    ),
    click.option(
        "--exact",
        is_flag=True,
        help="Evaluate the lines at every pixel instead of reading them from a table. Slow. Only "
        "rotated, sheared or warped views of bi-line networks change. Use it to check the error of "
        "the table.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """The values of the options, as they were typed."""

    window: str = "0,0,1,1"
    zoom: float = 1.0
    center: str = "0.5,0.5"
    rotate: float = 0.0
    translate: str = "0,0"
    shear: float = 0.0
    warp: str | None = None
    exact: bool = False

    def view(self, height: int = 1, width: int = 1) -> View:
        """The view that they describe, with a grid of this size.

        Reads the file of `--warp`. Raises `UserError`.
        """
        from networks.coordinates import View, parse_window
        from networks.warps import parse_displacement

        center = parse_pair("center", self.center)
        if center != (0.5, 0.5) and (self.zoom, self.rotate, self.shear) == (1, 0, 0):
            raise UserError(
                "--center has no effect without --zoom, --rotate or --shear; leave it out"
            )
        return View(height=height, width=width, box=parse_window(self.window)).transformed(
            zoom=self.zoom,
            center=center,
            rotate=self.rotate,
            translate=parse_pair("translate", self.translate),
            shear=self.shear,
            warp=None if self.warp is None else parse_displacement(self.warp),
            exact=self.exact,
        )

    def facts(self) -> dict[str, str]:
        """What a picture says of the view it shows, enough to draw it again.

        window: four numbers; view, where the content is transformed: such as 'rotate=30.0
        zoom=2.0'.
        """
        from networks.coordinates import parse_window
        from networks.warps import DISPLACEMENTS

        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "window"}
        if self.warp is not None and self.warp not in DISPLACEMENTS:
            given["warp"] = file_fact(self.warp)
        default = {f.name: f.default for f in fields(self)}
        changed = " ".join(f"{k}={value}" for k, value in given.items() if value != default[k])
        window = ",".join(map(str, parse_window(self.window)))
        return {"window": window} | ({"view": changed} if changed else {})


def view_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a function below `click.command`, and pass it their `ViewOptions`."""

    @functools.wraps(command)
    def with_view(*args: Any, **values: Any) -> Any:
        taken = {f.name: values.pop(f.name) for f in fields(ViewOptions)}
        return command(*args, view_options=ViewOptions(**taken), **values)

    for option in reversed(_OPTIONS):
        with_view = option(with_view)
    return with_view


def stretch_of(view: View) -> str:
    """A line that says how the view stretches the content; empty for equal scales of both axes."""
    x0, y0, x1, y1 = view.box
    width, height = view.width / (x1 - x0), view.height / (y1 - y0)
    if abs(math.log(width / height)) < 0.02:
        return ""
    ratio = Fraction(view.width, view.height)
    return (
        f"The content is stretched {width / height:.3g} times in width. "
        f"--window {ratio.numerator}:{ratio.denominator} shows more of the plane instead."
    )


def parse_pair(name: str, text: str) -> tuple[float, float]:
    """'0.25,-1' -> (0.25, -1.0): finite numbers of the option `name`. Raises `UserError`."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        raise UserError(
            f"{name} {text!r}: expected two numbers X,Y in frame units, such as 0.3,0.7"
        )
    return numbers[0], numbers[1]
