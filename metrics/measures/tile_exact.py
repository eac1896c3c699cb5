"""Is a view that is made in tiles equal to the same view made in one piece?

The compared views have odd, different sides, and the tiles never divide them evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from metrics.measures.base import Evaluation, Fields, Measure, Session

if TYPE_CHECKING:
    from networks.coordinates import View

_BOXES = {
    "whole": (0.0, 0.0, 1.0, 1.0),
    "window": (0.2, 0.1, 0.7, 0.9),
    "extrapolated": (-0.3, -0.2, 1.4, 1.1),
}


@dataclass(frozen=True, kw_only=True)
class TileExact(Measure):
    """Largest absolute difference between a view in one piece and the same view in tiles."""

    kind = "tile_exact"
    better = "low"
    detector = None

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """The largest difference of each view; `value` is the largest of all."""
        from metrics.pictures.ranks import over_ranks

        pictures = evaluation.pictures

        def differences(share: range, view: View) -> list[float]:
            # One picture a batch, so that the tiles are the same for any batch size and any
            # number of ranks.
            pieces = (
                session.render(pictures, share, view, batch_size=1, tile_px=px)
                for px in (view.height * view.width, tile_px(view))
            )
            return [
                (whole - tiled).abs().max().item() for whole, tiled in zip(*pieces, strict=True)
            ]

        largest = {
            name: max(over_ranks(pictures.num_images, partial(differences, view=view)))
            for name, view in tile_views(session.resolution).items()
        }
        return {"value": max(largest.values()), "unit": "of a range of 2"} | largest


def tile_views(resolution: int) -> dict[str, View]:
    """The three views by name, each about 1.5 x 2 times the trained resolution, with odd sides."""
    from networks.coordinates import View

    height, width = resolution * 3 // 2 | 1, resolution * 2 | 1
    return {name: View(height=height, width=width, box=box) for name, box in _BOXES.items()}


def tile_px(view: View) -> int:
    """Two thirds of a row of pixels, so that each row falls into a full and a ragged tile."""
    return view.width * 2 // 3
