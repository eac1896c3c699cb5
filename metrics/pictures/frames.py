"""From a generator to the uint8 pictures that detectors see, for each sight of `metrics/sights.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from metrics.arithmetic.similarity import enlarge
from metrics.features.extraction import Progress
from metrics.pictures.image_sets import ImageSet
from metrics.pictures.sights import FACTORS, PATCH_GROUP, paint_frame, ring_view, window_view
from metrics.pictures.specifications import Pictures
from metrics.pictures.subjects import Subject
from networks.coordinates import View
from networks.sampling import iterate_images
from torch_utils.tensors import to_uint8


def generated_frames(subject: Subject, chosen: ImageSet, pictures: Pictures, share: range, *, large: int, batch_size: int,
                     device: torch.device, progress: Progress) -> Iterator[torch.Tensor]:
    """uint8 [3, h, w] of these indices, one by one. large: side of the real pictures that windows are cut from."""
    side = subject.resolution
    options: dict[str, Any] = {"batch_size": batch_size, "device": device, "progress": progress}
    if pictures.view == "patch":
        yield from _windows(subject, chosen, pictures, share, large, options)
        return
    factor = FACTORS.get(pictures.view, 1)
    enlarged = pictures.view.endswith("_enlarged")
    view = ring_view(side) if pictures.view == "ring" else View.square(side).scaled(1 if enlarged else factor)
    for image in rendered(subject, chosen, pictures, share, view, **options):
        if enlarged:
            image = enlarge((image[None].double() + 1) / 2, factor)[0] * 2 - 1
        frame = to_uint8(image)
        yield paint_frame(frame) if pictures.view == "ring" else frame


def rendered(subject: Subject, chosen: ImageSet, pictures: Pictures, share: range, view: View, *, batch_size: int,
             tile_px: int | None = None, device: torch.device, progress: Progress) -> Iterator[torch.Tensor]:
    """Pictures in floats, [3, H, W] each. Raises `FloatingPointError` for one that is not finite."""
    samples = iterate_images(
        subject.generator, subject.encoder, [chosen.prompts[i] for i in share], [chosen.seeds[i] for i in share], view,
        truncation=pictures.truncation, batch_size=batch_size, tile_px=tile_px, device=device)
    for done, sample in enumerate(samples, start=1):
        if not torch.isfinite(sample.image).all():
            raise FloatingPointError(f"the picture of seed {sample.seed} is not finite: the network has diverged")
        progress(f"pictures of {view.width}x{view.height}", done, len(share))
        yield sample.image


def _windows(subject: Subject, chosen: ImageSet, pictures: Pictures, share: range, large: int,
             options: dict[str, Any]) -> Iterator[torch.Tensor]:
    """Runs of indices in one group share a window, whatever rank or batch they fall into."""
    progress = options.pop("progress")
    start = 0
    while start < len(share):
        group = share[start] // PATCH_GROUP
        stop = start
        while stop < len(share) and share[stop] // PATCH_GROUP == group:
            stop += 1
        view = window_view(group, pictures.seed, subject.resolution, large)
        run = share[start:stop]
        yield from map(to_uint8, rendered(subject, chosen, pictures, run, view, **options, progress=lambda *_: None))
        start = stop
        progress(f"windows of {view.width}x{view.height}", start, len(share))
