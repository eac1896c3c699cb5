"""What generators with one size of picture share: any other view is a typed error, and a crop is cut from the picture."""

from __future__ import annotations

import abc
from typing import ClassVar

import torch

from networks.coordinates import View
from networks.interfaces import Codes, Generator, ViewError


class NativeGenerator(Generator):
    """Base of convolutional generators: the trained frame at `resolution` is the only view; subclasses paint it."""

    kind: ClassVar[str]  # as in its config

    def __init__(self, token_shape: tuple[int, int], resolution: int) -> None:
        super().__init__(token_shape)
        self.resolution = resolution

    @abc.abstractmethod
    def paint(self, codes: Codes) -> torch.Tensor:
        """The whole picture.  # [N, 3, resolution, resolution]"""

    def prepare(self, codes: Codes, view: View) -> torch.Tensor:
        """Raises `ViewError` for any view but the trained frame at the trained resolution."""
        if view != View.square(self.resolution):
            window = "" if view.box == (0, 0, 1, 1) else f" of window {','.join(map(str, view.box))}"
            raise ViewError(f"a {self.kind} network draws {self.resolution}x{self.resolution} of the whole frame only, "
                            f"not {view.width}x{view.height}{window} ({view.convention}); systems for any size: eidgan, "
                            "creps, inrgan, cips")
        return self.paint(codes)

    def render(self, prepared: torch.Tensor, rows: slice, columns: slice) -> torch.Tensor:
        return prepared[:, :, rows, columns]
