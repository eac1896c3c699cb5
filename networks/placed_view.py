"""`PlacedView`: a view given by the coordinates of its rows and columns, for exported networks.

An exported graph has no `View`, whose sizes are Python numbers. It takes two tensors: y of every
row and x of every column, in frame units (`networks.coordinates`). A `PlacedView` shows them to a
generator under the names that a `View` has.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from networks.coordinates import Convention


@dataclass(frozen=True)
class PlacedView:
    """y: [H] of the rows, x: [W] of the columns, both float32 in frame units.

    Where a pixel is the mean of several points (`Generator.samples`), these are the rows and
    columns of points.

    convention: generators set it; the coordinates stay as they are.
    """

    y: torch.Tensor
    x: torch.Tensor
    convention: Convention = "centers"
    warp: None = None

    @property
    def height(self) -> int:
        return self.y.shape[0]

    @property
    def width(self) -> int:
        return self.x.shape[0]

    def scaled(self, factor: int) -> PlacedView:
        """The same view: y and x are those of all points, `factor` of them a pixel."""
        return self

    def rows(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """y of every row.  # [H] float32"""
        return self.y

    def columns(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """x of every column.  # [W] float32"""
        return self.x
