"""Where a tile lies in the plane, and the windows and sizes that a request may ask for.

Zoom level z shows the trained frame with 256 * 2^z pixels a side. Tile (x, y) covers the box from
(x, y) / 2^z to (x + 1, y + 1) / 2^z in frame units. All these numbers are exact in float64, and the
samples of a tile are those of any larger picture of the level.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dnnlib.errors import UserError
from networks.coordinates import STEP, View, parse_size, parse_window
from networks.warps import Box

SIDE_PX = 256
MIN_ZOOM, MAX_ZOOM = -3, 14  # a tile of eight frames, and one of a 16,384th
FARTHEST = int(1 / (SIDE_PX * STEP))  # frames, at zoom 0: as far as generate.py draws a tile


@dataclass(frozen=True)
class Tile:
    """Tile (x, y) of zoom level z; any of them may be negative. Raises `UserError`."""

    z: int
    x: int
    y: int

    def __post_init__(self) -> None:
        if not MIN_ZOOM <= self.z <= MAX_ZOOM:
            raise UserError(f"zoom {self.z}: the map has the levels {MIN_ZOOM} to {MAX_ZOOM}")
        if max(abs(side) for side in self.box) > FARTHEST / 2.0**self.z:
            raise UserError(
                "the map ends here: so far from the frame, coordinates in float32 hardly tell "
                "neighbouring pixels of this zoom apart"
            )

    @staticmethod
    def parse(z: str, x: str, y: str) -> Tile:
        """The tile that an address names. Raises `UserError`."""
        if not all(re.fullmatch("-?[0-9]{1,9}", part) for part in (z, x, y)):
            raise UserError("the address of a tile is /tile/PICTURE/Z/X/Y.png with whole numbers")
        return Tile(int(z), int(x), int(y))

    @property
    def box(self) -> Box:
        """In frame units: x0, y0, x1, y1."""
        side = 0.5**self.z
        return self.x * side, self.y * side, (self.x + 1) * side, (self.y + 1) * side

    def view(self) -> View:
        """The tile as a view, without a warp."""
        return View(height=SIDE_PX, width=SIDE_PX, box=self.box)

    def frame(self) -> Tile:
        """The tile of zoom level 0 that holds this one; above level 0 the tile itself."""
        if self.z <= 0:
            return self
        return Tile(0, self.x >> self.z, self.y >> self.z)


def requested_part(window: str, size: str, most_px: int) -> tuple[int, int]:
    """(width, height) of a request for a picture of `window`, after both are checked.

    most_px: pixels of the whole picture. Raises `UserError`.
    """
    if len(window) > 200:
        raise UserError(f"window {window[:40]}...: has more than 200 characters; give fewer digits")
    box = parse_window(window)
    if max(map(abs, box)) > FARTHEST:
        raise UserError(f"window {window}: reaches more than {FARTHEST} frames away")
    width, height = parse_size(size[:20])
    if width * height > most_px:
        raise UserError(
            f"size {width}x{height}: at most {most_px} pixels are drawn here, such as "
            f"{int(most_px**0.5)}x{int(most_px**0.5)}; generate.py draws any size"
        )
    return width, height
