"""The shared work of one evaluation: data, detectors, captions and generated pictures, each loaded or made once.

Protocols with equal `pictures` share one pass over the generator, whatever detectors read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from metrics.detectors import Detector, load_detector
from metrics.image_sets import ImageSet, image_set
from metrics.protocols import Pictures, Protocol
from metrics.ranks import over_ranks
from metrics.reference import Progress, reference_features
from networks.coordinates import View
from networks.interfaces import Generator, ImageTextEncoder, TextEncoder
from networks.sampling import iterate_images
from torch_utils.tensors import to_uint8


@dataclass(frozen=True)
class Subject:
    """What is scored: a generator on its device, the text encoder it was trained with, its trained resolution.

    encoder_spec is the string that `load_encoder` takes; sha256 that of the snapshot, None for weights in memory.
    """

    generator: Generator
    encoder: TextEncoder
    encoder_spec: str
    resolution: int
    sha256: str | None = None


class Session:
    """Everything the scorers ask for. `protocols` are all that will be scored, so that passes can be shared."""

    def __init__(self, subject: Subject, dataset_path: str | Path, protocols: Sequence[Protocol], *,
                 device: torch.device, batch_size: int, cache_dir: Path | None,
                 encoders: Mapping[str, ImageTextEncoder], progress: Progress) -> None:
        self.subject = subject
        self.dataset_path = dataset_path
        self.device = device
        self.batch_size = batch_size
        # The content hash of a plain folder does not see every change of a picture, so nothing of it is kept.
        self.cache_dir = None if Path(dataset_path).is_dir() else cache_dir
        self.progress = progress
        self._encoders = dict(encoders)
        if isinstance(subject.encoder, ImageTextEncoder):
            self._encoders[subject.encoder_spec] = subject.encoder
        self._wanted: dict[Pictures, set[str]] = defaultdict(set)
        for protocol in protocols:
            if protocol.measure.detector is not None:
                self._wanted[protocol.pictures].add(protocol.measure.detector)
        # Bound to the session, not the class, so that what they remember goes when the session goes.
        self.dataset = cache(self._open_dataset)
        self.detector = cache(self._load_detector)
        self.image_set = cache(self._choose)
        self.real_features = cache(self._read_real)
        self._generated = cache(self._run_pass)
        self._text = cache(self._encode_text)

    def generated_features(self, pictures: Pictures, detector: str) -> np.ndarray:
        """float32 [num_images, D], one row a picture."""
        return self._generated(pictures)[detector]

    def text_features(self, captions: Sequence[str], detector: str) -> np.ndarray:
        """float32 [N, D]; equal captions are encoded once."""
        return self._text(tuple(captions), detector)

    def render(self, pictures: Pictures, share: range, view: View, *, batch_size: int | None = None,
               tile_px: int | None = 65536) -> Iterator[torch.Tensor]:
        """The pictures of these indices in floats, one by one; `over_ranks` hands out the share.  # each [3, H, W]

        Raises `FloatingPointError` for a picture that is not finite.
        """
        chosen = self.image_set(pictures)
        samples = iterate_images(
            self.subject.generator, self.subject.encoder,
            [chosen.prompts[i] for i in share], [chosen.seeds[i] for i in share], view,
            truncation=pictures.truncation, batch_size=batch_size or self.batch_size, tile_px=tile_px,
            device=self.device)
        for done, sample in enumerate(samples, start=1):
            if not torch.isfinite(sample.image).all():
                raise FloatingPointError(f"the picture of seed {sample.seed} is not finite: the network has diverged")
            self.progress(f"pictures of {view.width}x{view.height}", done, len(share))
            yield sample.image

    def _open_dataset(self, split: str) -> TextImageDataset:
        return TextImageDataset(self.dataset_path, split=split)

    def _load_detector(self, name: str) -> Detector:
        return load_detector(name, self.device, self._encoders)

    def _choose(self, pictures: Pictures) -> ImageSet:
        return image_set(self.dataset(pictures.split), num_images=pictures.num_images, seed=pictures.seed)

    def _read_real(self, split: str, detector: str) -> np.ndarray:
        """float32 [n, D] of all real pictures of the split, in dataset order."""
        dataset = self.dataset(split)
        width, height = dataset.resolution
        side = self.subject.resolution
        if (width, height) != (side, side):
            raise UserError(f"--data {self.dataset_path}: pictures are {width}x{height} but the network was trained at "
                            f"{side}x{side}; build the data set with dataset_tool.py --resolution {side}x{side}")
        return reference_features(dataset, split, self.detector(detector), device=self.device,
                                  batch_size=self.batch_size, cache_dir=self.cache_dir, progress=self.progress)

    def _run_pass(self, pictures: Pictures) -> dict[str, np.ndarray]:
        detectors = [self.detector(name) for name in sorted(self._wanted[pictures])]

        def rows_of(share: range) -> list[tuple[np.ndarray, ...]]:
            rows: list[tuple[np.ndarray, ...]] = []
            stream = self.render(pictures, share, View.square(self.subject.resolution))
            while batch := list(islice(stream, self.batch_size)):
                images = to_uint8(torch.stack(batch))
                rows.extend(zip(*(detector(images).numpy() for detector in detectors)))
            return rows

        columns = zip(*over_ranks(pictures.num_images, rows_of))
        return {detector.name: np.stack(column) for detector, column in zip(detectors, columns)}

    def _encode_text(self, captions: tuple[str, ...], detector: str) -> np.ndarray:
        unique = sorted(set(captions))
        row_of = {caption: row for row, caption in enumerate(unique)}
        features = self.detector(detector).text(unique).numpy()
        return features[[row_of[caption] for caption in captions]]
