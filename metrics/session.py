"""The shared work of one call of `evaluate`: nothing is loaded, drawn or read twice.

Evaluations with equal `pictures` share one pass over the generator, whatever detectors read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch

from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from metrics.features.detectors import Detector, DualDetector, load_detector
from metrics.features.extraction import Features, extract
from metrics.features.moments import Moments
from metrics.features.reference_file import ReferenceFile
from metrics.features.references import reference_features
from metrics.features.wants import VECTORS, Wants
from metrics.measures.base import Evaluation, require_side
from metrics.pictures.image_sets import ImageSet, caption_pool
from metrics.pictures.reading import Compute
from metrics.pictures.sights import RealPictures, real_sight
from metrics.pictures.sources import Reals, Sources
from metrics.pictures.specifications import Pictures, Reference
from metrics.pictures.subject import Subject, Views
from networks.interfaces import ImageTextEncoder, TextEncoder
from networks.pretrained.lpips import MIN_PX, Lpips
from networks.text_encoders.limits import cut_captions
from torch_utils.distributed import is_main, main_first

OnCut = Callable[[list[str], int], None]
"""Called with the captions that an encoder does not read to their end, and its limit in tokens."""

LEAST_PX = 16  # the least side of pictures whose pixels are compared

P = ParamSpec("P")
T = TypeVar("T")


def once(
    method: Callable[Concatenate[Session, P], T],
) -> Callable[Concatenate[Session, P], T]:
    """The method computes its result once for each session and arguments."""

    @wraps(method)
    def remembered(self: Session, *args: P.args, **kwargs: P.kwargs) -> T:
        key = method.__name__, args, tuple(kwargs.items())
        if key not in self.results:
            self.results[key] = method(self, *args, **kwargs)
        return self.results[key]

    return remembered


class Session:
    """It answers what measures ask for: see `metrics.measures.base.Session`.

    `expect` names each evaluation before the first score, so that passes can be shared.
    """

    def __init__(
        self,
        subject: Subject,
        sources: Sources,
        compute: Compute,
        *,
        cache_dir: Path | None = None,
        encoders: Mapping[str, ImageTextEncoder] | None = None,
        on_cut: OnCut | None = None,
        nearest_sheet: Path | None = None,
    ) -> None:
        self.subject, self.sources, self.compute = subject, sources, compute
        self.cache_dir, self.on_cut, self.nearest_sheet = cache_dir, on_cut, nearest_sheet
        self.encoders = {**(encoders or {}), **subject.loaded_encoders()}
        self.results: dict[Any, Any] = {}
        no_wants: Wants = frozenset()
        self._wants: dict[tuple[Pictures, str], Wants] = defaultdict(lambda: no_wants)
        self._real_wants: dict[tuple[Reference, str], Wants] = defaultdict(lambda: no_wants)

    @property
    def device(self) -> torch.device:
        return self.compute.device

    @property
    def resolution(self) -> int:
        return self.subject.resolution

    def expect(self, evaluation: Evaluation) -> None:
        """Before the first score: this evaluation will be scored."""
        measure = evaluation.measure
        if measure.detector is None:
            return
        for pictures in measure.passes(evaluation.pictures):
            self._wants[pictures, measure.detector] |= measure.wants
            if self.nearest_sheet and measure.draws_sheet:
                self._wants[pictures, "pixels"] |= VECTORS
        for reference in evaluation.references:
            self._real_wants[reference, measure.detector] |= measure.wants

    # What measures ask for.

    def vectors(self, evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
        real, generated = self._both(evaluation)
        return real.get_vectors(), generated.get_vectors()

    def moments(self, evaluation: Evaluation) -> tuple[Moments, Moments]:
        real, generated = self._both(evaluation)
        return real.get_moments(), generated.get_moments()

    def pixels(self, evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
        side = self.resolution
        require_side(side, LEAST_PX)
        real, generated = self.vectors(evaluation)
        return real.reshape(-1, 3, side, side), generated.reshape(-1, 3, side, side)

    def real(self, evaluation: Evaluation, reference: Reference | None = None) -> Features:
        reference, path = reference or evaluation.reference, self.sources.statistics
        measure = evaluation.measure
        assert measure.detector is not None
        if reference.sight != "native" or path is None:
            num = evaluation.pictures.num_images
            return self._real(reference, measure.detector, num, of_data=False)
        file, side = ReferenceFile(path), self.resolution
        if file.resolution not in (None, (side, side)):
            width, height = file.resolution
            raise UserError(
                f"--ref {path} was made of pictures of {width}x{height}, the generated ones have "
                f"{side}x{side}"
            )
        return file.features(self.detector(measure.detector), reference.tag, measure.wants)

    def generated(self, pictures: Pictures, detector: str) -> Features:
        return self._run_pass(pictures)[detector]

    def real_pictures(self, reference: Reference) -> RealPictures:
        return self.reals(reference, of_data=False).pictures

    def real_captions(self, evaluation: Evaluation) -> list[tuple[str, ...]]:
        if self.sources.statistics is not None:
            return [() for _ in range(self.real(evaluation).count)]
        pictures = self.real_pictures(evaluation.reference)
        return [pictures.captions(index) for index in range(len(pictures))]

    def items_vectors(self, pictures: Pictures, detector: str) -> np.ndarray | None:
        chosen = self.image_set(pictures)
        if not chosen.from_split:
            return None
        reference, other = Reference(split=pictures.split), self.sources.reference is not None
        real = self._real(reference, detector, pictures.num_images, of_data=other)
        return real.get_vectors()[list(chosen.items)]

    @once
    def image_set(self, pictures: Pictures) -> ImageSet:
        dataset = None if self.sources.data is None else self.dataset(pictures.split)
        chosen = self.subject.image_set(pictures, dataset)
        self._look_for_cut(self.subject.encoder, chosen.prompts)
        return chosen

    def caption_pool(self, pictures: Pictures) -> tuple[list[str], str]:
        """One caption of each item of the split.

        If the items of the pictures are not known, the captions of the scored pictures alone.
        """
        chosen = self.image_set(pictures)
        if chosen.from_split:
            return caption_pool(self.dataset(pictures.split), seed=pictures.seed), "split"
        first = dict(zip(reversed(chosen.items), reversed(chosen.prompts), strict=True))
        return [first[item] for item in range(len(first))], "scored pictures"

    def text_features(self, captions: Sequence[str], detector: str) -> np.ndarray:
        if "" in captions:
            raise UserError(
                "some pictures have no caption, which CLIP measures need: put a NAME.txt beside "
                "each, or a captions.jsonl into the folder"
            )
        return self._encode_text(tuple(captions), detector)

    def render(
        self,
        pictures: Pictures,
        share: range,
        view: Views,
        *,
        batch_size: int | None = None,
        tile_px: int | None = None,
    ) -> Iterator[torch.Tensor]:
        compute = replace(self.compute, batch_size=batch_size or self.compute.batch_size)
        choose = partial(self.image_set, pictures)
        return self.subject.render(pictures, choose, share, view, compute, tile_px)

    @once
    def lpips(self) -> Lpips:
        if self.resolution < MIN_PX:
            raise UserError(f"LPIPS needs pictures of at least {MIN_PX} px a side")
        return Lpips(self.sources.weights.get("alexnet")).to(self.device)

    # What is opened, loaded and computed once.

    @once
    def dataset(self, split: str) -> TextImageDataset:
        """A split of `--data`. Raises `UserError` if there is none."""
        return self.sources.dataset(split)

    @once
    def reals(self, reference: Reference, *, of_data: bool) -> Reals:
        """The real pictures of a reference; with `of_data` those of `--data` in spite of `--ref`.

        Raises `UserError` for an option that is missing.
        """
        sources = replace(self.sources, reference=None) if of_data else self.sources
        return sources.reals(reference, self.resolution)

    @once
    def detector(self, name: str) -> Detector:
        """A detector by its name. Raises `UserError` for weights that are missing."""
        # Rank 0 is first, so that the other ranks find what it downloads.
        return main_first(
            lambda: load_detector(name, self.device, self.encoders, self.sources.weights)
        )

    def _both(self, evaluation: Evaluation) -> tuple[Features, Features]:
        detector = evaluation.measure.detector
        assert detector is not None
        return self.real(evaluation), self.generated(evaluation.pictures, detector)

    @once
    def _real(
        self, reference: Reference, detector: str, num_patches: int, *, of_data: bool
    ) -> Features:
        loaded, reals = self.detector(detector), self.reals(reference, of_data=of_data)
        sight = real_sight(reals.pictures, reference, self.resolution, num_patches, reals.option)
        keeps = self.cache_dir is not None and reals.cacheable and getattr(loaded, "cached", True)
        return reference_features(
            sight,
            reals.pictures.content_hash if keeps else "",
            loaded,
            self._real_wants[reference, detector],
            self.compute,
            self.cache_dir if keeps else None,
        )

    @once
    def _run_pass(self, pictures: Pictures) -> dict[str, Features]:
        wants = {name: want for (wanted, name), want in self._wants.items() if wanted == pictures}
        detectors = {name: self.detector(name) for name in sorted(wants)}
        choose, large = partial(self.image_set, pictures), 0
        if pictures.sight == "patch":
            large = min(self.real_pictures(Reference(sight="patch")).resolution)
        return extract(
            pictures.num_images,
            lambda share: self.subject.batches(pictures, choose, share, self.compute, large),
            detectors,
            wants,
        )

    @once
    def _encode_text(self, captions: tuple[str, ...], detector: str) -> np.ndarray:
        """Each different caption is encoded once."""
        unique = sorted(set(captions))
        place = {caption: index for index, caption in enumerate(unique)}
        loaded = self.detector(detector)
        assert isinstance(loaded, DualDetector)
        self._look_for_cut(loaded.encoder, unique)
        features = loaded.text(unique).numpy()
        return features[[place[caption] for caption in captions]]

    def _look_for_cut(self, encoder: TextEncoder | None, captions: Sequence[str]) -> None:
        if self.on_cut is not None and is_main():
            self.on_cut(*cut_captions(encoder, captions))
