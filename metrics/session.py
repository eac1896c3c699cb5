"""The shared work of one evaluation: data, detectors, captions and generated pictures, each loaded or made once.

Protocols with equal `pictures` share one pass over the generator, whatever detectors read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from datasets.archive import INDEX
from datasets.stylegan import NO_CAPTIONS, LabelCaptions
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from metrics.features.detectors import Detector, DualDetector, load_detector
from metrics.features.extraction import Features, Progress, Want, decoding_threads, extract, read_batches
from metrics.features.reference_file import ReferenceFile
from metrics.features.references import reference_features
from metrics.pictures.frames import generated_frames, rendered
from metrics.pictures.image_sets import ImageSet, caption_pool, image_set
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.sights import ENLARGED, RealPictures, RealView, real_view
from metrics.pictures.specifications import Detail, Pictures, Protocol, Reference
from metrics.pictures.subjects import FolderSubject, Subject
from networks.coordinates import View
from networks.interfaces import ImageTextEncoder, TextEncoder
from networks.pretrained.lpips import MIN_PX, Lpips
from networks.text_encoders.limits import cut_captions
from torch_utils.distributed import is_main, main_first

OnCut = Callable[[list[str], int], None]
"""Called with captions that an encoder does not read to their end, and the tokens that it reads."""


@dataclass(frozen=True)
class Sources:
    """Where real pictures and captions come from.

    data: a data set, for captions and real pictures; labels: how captions are made of its class
    labels; reference: statistics, a folder or a data set that replaces its real pictures; large: a
    data set with larger real pictures; weights: local files of detectors by name.
    """

    data: Path | None = None
    reference: Path | None = None
    large: Path | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    labels: LabelCaptions = NO_CAPTIONS


class Session:
    """Everything the scorers ask for. `expect` names all protocols that will be scored, so that passes can be shared."""

    def __init__(self, subject: Subject | FolderSubject, sources: Sources, *, device: torch.device, batch_size: int,
                 cache_dir: Path | None, encoders: Mapping[str, ImageTextEncoder],
                 progress: Progress, on_cut: OnCut | None = None,
                 nearest_sheet: Path | None = None) -> None:
        self.on_cut, self.nearest_sheet = on_cut, nearest_sheet
        self.subject, self.sources = subject, sources
        self.device, self.batch_size, self.progress = device, batch_size, progress
        self._cache_dir = cache_dir
        self._encoders = dict(encoders)
        if isinstance(subject, Subject) and isinstance(subject.encoder, ImageTextEncoder):
            self._encoders[subject.encoder_spec] = subject.encoder
        self._wants: dict[Pictures, dict[str, Want]] = defaultdict(lambda: defaultdict(Want))
        self._real_wants: dict[tuple[Reference, str], Want] = defaultdict(Want)
        # Bound to the session, not the class, so that what they remember goes when the session goes.
        self.dataset = cache(self._open_dataset)
        self.detector = cache(self._load_detector)
        self.image_set = cache(self._choose)
        self.places = cache(self._find_places)
        self.reals = cache(self._open_reals)
        self._real = cache(self._read_real)
        self._generated = cache(self._run_pass)
        self._text = cache(self._encode_text)
        self.lpips = cache(self._load_lpips)

    def expect(self, protocol: Protocol) -> None:
        """Before the first score: this protocol will be asked for."""
        detector = protocol.measure.detector
        if detector is None:
            return
        for pictures in passes_of(protocol):
            self._wants[pictures][detector] |= want_of(protocol)
            if self.nearest_sheet and protocol.draws_sheet:
                self._wants[pictures]["pixels"] |= Want(rows=True)
        for reference in protocol.references:
            self._real_wants[reference, detector] |= want_of(protocol)

    def generated(self, pictures: Pictures, detector: str) -> Features:
        """Of all generated pictures, in order."""
        return self._generated(pictures)[detector]

    def real(self, protocol: Protocol, reference: Reference | None = None) -> Features:
        """Of the real pictures that the protocol names, or of another one of its `references`."""
        reference, path = reference or protocol.reference, self.sources.reference
        detector = protocol.measure.detector
        if reference.view == "native" and path is not None and path.is_file() and path.suffix == ".npz":
            tag = f"{reference.split}, {reference.view}, {reference.expand}"
            file, side = ReferenceFile(path), self.subject.resolution
            if file.resolution not in (None, (side, side)):
                raise UserError(f"--ref {path} was made of pictures of {file.resolution[0]}x{file.resolution[1]}, the generated "
                                f"ones have {side}x{side}")
            return file.features(self.detector(detector), tag, want_of(protocol).rows)
        return self._real(reference, detector, protocol.pictures.num_images)

    def real_items(self, pictures: Pictures, detector: str) -> np.ndarray | None:
        """Rows of the real pictures whose captions made the generated ones; None where that is not known."""
        if isinstance(self.subject, FolderSubject) and self.places(pictures) is None:
            return None
        real = self._real(Reference(split=pictures.split), detector, pictures.num_images)
        return real.with_rows()[list(self.image_set(pictures).items)]

    def real_captions(self, protocol: Protocol) -> list[tuple[str, ...]]:
        """All captions of each real picture; none where a file of statistics replaces them."""
        path = self.sources.reference
        if path is not None and path.suffix == ".npz" and path.is_file():
            return [() for _ in range(self.real(protocol).count)]
        pictures = self.reals(protocol.reference)[0]
        return [pictures.captions(index) for index in range(len(pictures))]

    def text_features(self, captions: Sequence[str], detector: str) -> np.ndarray:
        """float32 [N, D]; equal captions are encoded once. Raises `UserError` where a picture has no caption."""
        if "" in captions:
            raise UserError("some pictures have no caption, which CLIP measures need: put a NAME.txt beside each, or a "
                            "captions.jsonl into the folder")
        return self._text(tuple(captions), detector)

    def caption_pool(self, pictures: Pictures) -> tuple[list[str], str]:
        """One caption an item, by item number: where R-precision takes its distractors from.

        And its origin: all items of the split, or, where the items of a folder's pictures are not
        known, the captions of the scored pictures alone.
        """
        if isinstance(self.subject, Subject) or self.places(pictures) is not None:
            return caption_pool(self.dataset(pictures.split), seed=pictures.seed), "split"
        chosen = self.image_set(pictures)
        first = dict(zip(reversed(chosen.items), reversed(chosen.prompts), strict=True))
        return [first[item] for item in range(len(first))], "scored pictures"

    def render(self, pictures: Pictures, share: range, view: View, *, batch_size: int | None = None,
               tile_px: int | None = None) -> Iterator[torch.Tensor]:
        """The pictures of these indices in floats, one by one, each [3, H, W]. Raises `UserError` for a folder.

        Raises `FloatingPointError` for a picture that is not finite.
        """
        return rendered(self._network(), self.image_set(pictures), pictures, share, view,
                        batch_size=batch_size or self.batch_size, tile_px=tile_px, device=self.device, progress=self.progress)

    def _network(self) -> Subject:
        if isinstance(self.subject, FolderSubject):
            raise UserError("this protocol renders at other sizes, which a folder of pictures cannot; give --network")
        return self.subject

    def _open_dataset(self, split: str) -> TextImageDataset:
        if self.sources.data is None:
            raise UserError("--data is missing: the data set whose captions and real pictures are used")
        return TextImageDataset(self.sources.data, split=split, labels=self.sources.labels)

    def _load_detector(self, name: str) -> Detector:
        # Rank 0 first: what it downloads the others find.
        return main_first(lambda: load_detector(name, self.device, self._encoders, self.sources.weights))

    def _load_lpips(self) -> Lpips:
        if self.subject.resolution < MIN_PX:
            raise UserError(f"LPIPS needs pictures of at least {MIN_PX} px a side")
        return Lpips(self.sources.weights.get("alexnet")).to(self.device)

    def _choose(self, pictures: Pictures) -> ImageSet:
        if isinstance(self.subject, FolderSubject):
            return self.subject.image_set(pictures, self.places(pictures))
        chosen = image_set(self.dataset(pictures.split), num_images=pictures.num_images,
                           seed=pictures.seed, seeds_per_prompt=pictures.seeds_per_prompt)
        self._look_for_cut(self.subject.encoder, chosen.prompts)
        return chosen

    def _look_for_cut(self, encoder: TextEncoder | None, captions: Sequence[str]) -> None:
        if self.on_cut is not None and is_main():
            self.on_cut(*cut_captions(encoder, captions))

    def _find_places(self, pictures: Pictures) -> list[int] | None:
        """Position in the split of the item behind each scored picture of a folder.

        `gen` wrote down its id; else it is the first item that has the picture's caption. None
        where one of them is not in --data.
        """
        assert isinstance(self.subject, FolderSubject)
        if self.sources.data is None:
            return None
        folder, files = self.subject.folder, self.subject.files(pictures)
        dataset = self.dataset(pictures.split)
        by_id = {dataset.id(index): index for index in range(len(dataset))}
        by_caption: dict[str, int] = {}
        for index in range(len(dataset)):
            for caption in dataset.captions(index):
                by_caption.setdefault(caption, index)
        places = []
        for file in files:
            place = by_id.get(folder.item(file) or "")
            if place is None and folder.captions(file):
                place = by_caption.get(folder.captions(file)[0])
            if place is None:
                return None
            places.append(place)
        return places

    def _open_reals(self, reference: Reference) -> tuple[RealPictures, str, bool]:
        """(pictures, option and file for messages, whether features may be cached)."""
        if reference.view == "native":
            path, option = (self.sources.reference, "--ref") if self.sources.reference else (self.sources.data, "--data")
            if path is None:
                raise UserError("--data or --ref is missing: the real pictures to compare with")
        else:
            path, option = self.sources.large, "--data-large"
            if path is None:
                raise UserError("--data-large is missing: this protocol needs real pictures larger than the network's, as a "
                                "data set of dataset_tool.py (OpenMoji renders at any --resolution)")
        if path.is_dir() and not (path / INDEX).is_file():
            return PictureFolder(path), f"{option} {path}", False
        return TextImageDataset(path, split=reference.split), f"{option} {path}", True

    def real_view(self, reference: Reference, num_patches: int) -> RealView:
        """What is seen of the real pictures. Raises `UserError` where their size does not fit."""
        pictures, where, _ = self.reals(reference)
        return real_view(pictures, reference, self.subject.resolution, num_patches, where)

    def _read_real(self, reference: Reference, detector: str, num_patches: int) -> Features:
        loaded = self.detector(detector)
        view = self.real_view(reference, num_patches)
        pictures, _, cacheable = self.reals(reference)
        cache_dir = self._cache_dir if cacheable and getattr(loaded, "cached", True) else None
        return reference_features(view, pictures.content_hash if cache_dir else "", loaded,
                                  self._real_wants[reference, detector], device=self.device, batch_size=self.batch_size,
                                  cache_dir=cache_dir, progress=self.progress)

    def _run_pass(self, pictures: Pictures) -> dict[str, Features]:
        detectors = {name: self.detector(name) for name in sorted(self._wants[pictures])}
        return extract(pictures.num_images, lambda share: self._batches(pictures, share), detectors, self._wants[pictures])

    def _batches(self, pictures: Pictures, share: range) -> Iterator[torch.Tensor]:
        if isinstance(self.subject, FolderSubject):
            if pictures.view != "native":
                self._network()
            folder, files = self.subject.folder, self.subject.files(pictures)
            yield from read_batches(lambda i: folder[files[i]].image, share,
                                    batch_size=self.batch_size, device=self.device,
                                    num_threads=decoding_threads(), progress=self.progress, what=f"pictures of {folder.name}")
            return
        large = min(self.reals(Reference(view="patch"))[0].resolution) if pictures.view == "patch" else 0
        frames = generated_frames(self._network(), self.image_set(pictures), pictures, share, large=large,
                                  batch_size=self.batch_size, device=self.device, progress=self.progress)
        while batch := list(islice(frames, self.batch_size)):
            yield torch.stack(batch)

    def _encode_text(self, captions: tuple[str, ...], detector: str) -> np.ndarray:
        unique = sorted(set(captions))
        row_of = {caption: row for row, caption in enumerate(unique)}
        loaded = self.detector(detector)
        assert isinstance(loaded, DualDetector)
        self._look_for_cut(loaded.encoder, unique)
        features = loaded.text(unique).numpy()
        return features[[row_of[caption] for caption in captions]]


def want_of(protocol: Protocol) -> Want:
    """What the protocol's measure needs of features."""
    needs = getattr(protocol.measure, "needs", None)
    return Want(rows=needs == "rows", moments=needs == "moments")


def passes_of(protocol: Protocol) -> list[Pictures]:
    """The sets of generated pictures whose features the protocol reads."""
    if protocol.measure.detector is None:
        return []
    if isinstance(protocol.measure, Detail):
        pictures = protocol.pictures
        return [pictures, replace(pictures, view=ENLARGED[pictures.view])]
    return [protocol.pictures]
