"""Which views and tiles the tile test compares: odd, non-square sizes, and tiles that never divide them evenly."""

from __future__ import annotations

from networks.coordinates import View

_BOXES = {
    "whole": (0.0, 0.0, 1.0, 1.0),
    "window": (0.2, 0.1, 0.7, 0.9),
    "extrapolated": (-0.3, -0.2, 1.4, 1.1),
}


def tile_views(resolution: int) -> dict[str, View]:
    """The three views by name, each about 1.5 x 2 times the trained resolution, both sides odd."""
    height, width = resolution * 3 // 2 | 1, resolution * 2 | 1
    return {name: View(height=height, width=width, box=box) for name, box in _BOXES.items()}


def tile_px(view: View) -> int:
    """Two thirds of one row: every row falls into a full and a ragged tile."""
    return view.width * 2 // 3
