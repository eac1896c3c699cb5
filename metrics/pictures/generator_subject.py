"""A generator that draws the pictures to score, for each sight of `specifications.Pictures`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch

from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from metrics.arithmetic.similarity import enlarge
from metrics.pictures.image_sets import ImageSet, image_set
from metrics.pictures.reading import Compute, silent
from metrics.pictures.sights import FACTORS, paint_frame, ring_view, window_view
from metrics.pictures.specifications import Pictures
from metrics.pictures.subject import Choose, Views
from networks.coordinates import View
from networks.interfaces import Generator, ImageTextEncoder, TextEncoder
from networks.sampling import iterate_images
from torch_utils.tensors import to_uint8


@dataclass(frozen=True)
class GeneratorSubject:
    """A generator on its device, the text encoder it was trained with, its trained resolution.

    - `encoder` is None for a generator that was trained without one.
    - `encoder_spec` is the string that `load_encoder` takes.
    - `sha256` is that of the snapshot, or None for weights in memory.
    - `loss_encoder_id` names the encoder that the training loss used. A generator that reads no
      text may have one as well.
    """

    generator: Generator
    encoder: TextEncoder | None
    encoder_spec: str
    resolution: int
    sha256: str | None = None
    loss_encoder_id: str = ""

    takes_prompts_from_data = True

    @property
    def encoder_id(self) -> str | None:
        return self.encoder.id if self.encoder else self.loss_encoder_id or None

    def identity(self) -> dict[str, Any]:
        identity = {"snapshot_sha256": self.sha256, "text_encoder": self.encoder_id}
        # Not part of the weights that sha256 names; left out where they change nothing.
        noise, samples = self.generator.config.text_noise, self.generator.samples
        identity |= {"text_noise": noise} if noise else {}
        return identity | ({"samples": samples} if samples > 1 else {})

    def loaded_encoders(self) -> Mapping[str, ImageTextEncoder]:
        if isinstance(self.encoder, ImageTextEncoder):
            return {self.encoder_spec: self.encoder}
        return {}

    def made_with(
        self, seed: int | None, truncation: float | None
    ) -> tuple[int | None, float | None]:
        """What the user asked for, since the pictures are made now."""
        return seed, truncation

    def trained_with(self, encoder_id: str) -> bool | None:
        return encoder_id == self.encoder_id

    def image_set(self, pictures: Pictures, dataset: TextImageDataset | None) -> ImageSet:
        if dataset is None:
            raise UserError(
                "--data is missing: the data set whose captions and real pictures are used"
            )
        return image_set(
            dataset,
            num_images=pictures.num_images,
            seed=pictures.seed,
            seeds_per_prompt=pictures.seeds_per_prompt,
        )

    def drawn(self, pictures: Pictures) -> dict[str, Any]:
        """No fields, since all pictures that are made are scored."""
        return {}

    def batches(
        self, pictures: Pictures, choose: Choose, share: range, compute: Compute, large: int
    ) -> Iterator[torch.Tensor]:
        frames = self.frames(pictures, choose, share, compute, large)
        while batch := list(islice(frames, compute.batch_size)):
            yield torch.stack(batch)

    def frames(
        self, pictures: Pictures, choose: Choose, share: range, compute: Compute, large: int = 0
    ) -> Iterator[torch.Tensor]:
        """The pictures of `batches` one by one, uint8 [3, h, w] each."""
        side, sight = self.resolution, pictures.sight
        factor = FACTORS.get(sight, 1)
        enlarged = sight.endswith("_enlarged")
        scale = 1 if enlarged else factor
        view: Views = ring_view(side) if sight == "ring" else View.square(side).scaled(scale)
        if sight == "patch":
            view = partial(window_view, seed=pictures.seed, side=side, large=large)
        for image in self.render(pictures, choose, share, view, compute):
            if enlarged:
                image = enlarge((image[None].double() + 1) / 2, factor)[0] * 2 - 1
            frame = to_uint8(image)
            yield paint_frame(frame) if sight == "ring" else frame

    def render(
        self,
        pictures: Pictures,
        choose: Choose,
        share: range,
        view: Views,
        compute: Compute,
        tile_px: int | None = None,
    ) -> Iterator[torch.Tensor]:
        if not isinstance(view, View):
            quiet = replace(compute, progress=silent)
            for done, index in enumerate(share, start=1):
                one = range(index, index + 1)
                yield from self.render(pictures, choose, one, view(index), quiet, tile_px)
                compute.progress("pictures, each of a view", done, len(share))
            return
        chosen = choose()
        samples = iterate_images(
            self.generator,
            self.encoder,
            [chosen.prompts[index] for index in share],
            [chosen.seeds[index] for index in share],
            view,
            truncation=pictures.truncation,
            batch_size=compute.batch_size,
            tile_px=tile_px,
            device=compute.device,
        )
        for done, sample in enumerate(samples, start=1):
            if not torch.isfinite(sample.image).all():
                raise FloatingPointError(
                    f"the picture of seed {sample.seed} is not finite: the network has diverged"
                )
            compute.progress(f"pictures of {view.width}x{view.height}", done, len(share))
            yield sample.image

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        training = self.generator.training
        self.generator.eval()
        try:
            yield
        finally:
            self.generator.train(training)
