"""The base of generators with one size of picture: their only view is the whole trained frame."""

from __future__ import annotations

import abc

import torch

from networks.coordinates import View
from networks.interfaces import Codes, Generator, ViewError


class NativeGenerator(Generator):
    """Base of convolutional generators. Subclasses paint the trained frame; a crop is cut from it.

    The config has `kind` and `resolution`, the side of the pictures.
    """

    @abc.abstractmethod
    def paint(self, codes: Codes) -> torch.Tensor:
        """The whole picture.  # [N, 3, resolution, resolution]"""

    def prepare(self, codes: Codes, view: View) -> torch.Tensor:
        """Raises `ViewError` for any view but the trained frame at the trained resolution."""
        kind, side = self.config.kind, self.config.resolution
        if view != View.square(side):
            box = ",".join(f"{edge:.4g}" for edge in view.box)
            window = "" if view.box == (0, 0, 1, 1) else f" of window {box}"
            warped = "" if view.warp is None else ", transformed"
            raise ViewError(
                f"a {kind} network draws {side}x{side} of the whole frame only, not "
                f"{view.width}x{view.height}{window} ({view.convention}){warped}; systems for any "
                "size: eidgan, creps, inrgan, cips"
            )
        return self.paint(codes)

    def render(self, prepared: torch.Tensor, rows: slice, columns: slice) -> torch.Tensor:
        return prepared[:, :, rows, columns]
