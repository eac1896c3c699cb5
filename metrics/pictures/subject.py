"""What is scored. Generated and finished pictures answer the same questions.

`GeneratorSubject` draws its pictures with a network. `FolderSubject` reads finished pictures of
any model from a folder. Everything above this room asks a `Subject` and never which one it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any
from typing import Protocol as Interface

import torch

from datasets.text_image import TextImageDataset
from metrics.pictures.image_sets import ImageSet
from metrics.pictures.reading import Compute
from metrics.pictures.specifications import Pictures
from networks.coordinates import View
from networks.interfaces import ImageTextEncoder, TextEncoder

Choose = Callable[[], ImageSet]
"""Gives the image set of the pictures. Finished pictures are read without it."""

Views = View | Callable[[int], View]
"""One view of all pictures, or a function of the index that gives each picture its view."""


class Subject(Interface):
    """Pictures that are scored, each with a prompt."""

    @property
    def resolution(self) -> int:
        """The side S of the pictures in pixels."""

    @property
    def encoder(self) -> TextEncoder | None:
        """The text encoder that reads the prompts; None if there is none, or no network."""

    @property
    def encoder_id(self) -> str | None:
        """The id of the encoder with which the network was trained, if it is known."""

    @property
    def takes_prompts_from_data(self) -> bool:
        """Whether the prompts come from the data set; else the pictures bring their captions."""

    def identity(self) -> dict[str, Any]:
        """The fields of a record that say what was scored."""

    def loaded_encoders(self) -> Mapping[str, ImageTextEncoder]:
        """Dual encoders that are in memory already, by their spec."""

    def made_with(
        self, seed: int | None, truncation: float | None
    ) -> tuple[int | None, float | None]:
        """Seed block and truncation of the pictures, for those that a user asked for."""

    def trained_with(self, encoder_id: str) -> bool | None:
        """Whether this encoder trained the network; None if it is not known how they were made."""

    def image_set(self, pictures: Pictures, dataset: TextImageDataset | None) -> ImageSet:
        """Item, prompt and latent seed of each picture.

        dataset: the split whose captions are used; None if there is no data set. Raises `UserError`
        if one is needed.
        """

    def drawn(self, pictures: Pictures) -> dict[str, Any]:
        """Fields of a record: which of the finished pictures were scored, and their prompts."""

    def batches(
        self, pictures: Pictures, choose: Choose, share: range, compute: Compute, large: int
    ) -> Iterator[torch.Tensor]:
        """The pictures of these indices as detectors see them, uint8 [n, 3, h, w] each batch.

        large: the side of the real pictures from which windows are cut (sight "patch").
        """

    def render(
        self,
        pictures: Pictures,
        choose: Choose,
        share: range,
        view: Views,
        compute: Compute,
        tile_px: int | None = None,
    ) -> Iterator[torch.Tensor]:
        """The pictures of these indices in floats, [3, H, W] each, nominally in [-1, 1].

        Raises `UserError` for finished pictures and `FloatingPointError` for a picture that is not
        finite.
        """

    def evaluating(self) -> AbstractContextManager[None]:
        """While it is open, the network is in evaluation mode; then it is as it was before."""
