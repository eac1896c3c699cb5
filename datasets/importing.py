"""From raw picture files of any source to archive pictures: threaded, in order, with a report of every defect.

Each importer (coco, cub, tar_shards, saved_arrow) yields `RawPicture`s; `import_pictures` decodes and resizes them.
Pillow releases the interpreter's lock while it decodes, so threads are enough.
"""

from __future__ import annotations

import io
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.archive import PICTURE_ERRORS, Picture
from datasets.folder import RESIZE_FILTER, ImportReport, Transform, load_rgb, resize
from dnnlib.errors import UserError

_AHEAD = 4  # pictures decoded ahead a thread: bounds the memory
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "F"})


@dataclass(frozen=True)
class RawPicture:
    """A picture that may be imported: a file, or the bytes of one; `name` is how a report calls it.

    box: x, y, width, height in pixels of the picture; `crop_to_box` says what becomes of it.
    """

    id: str
    name: str
    data: Path | bytes
    captions: tuple[str, ...]
    split: str
    box: tuple[float, float, float, float] | None = None


@dataclass
class Report(ImportReport):
    """What an import left out or met; `counts` by kind of defect.

    `strict` turns the first defect into a `UserError`.
    """

    strict: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def defect(self, kind: str, file: str, reason: object = "") -> None:
        """Leave out a picture or a caption: named in `skipped`, counted under `kind`."""
        self.skip(file, reason or kind)
        self.met(kind, file, reason)

    def met(self, kind: str, file: str, reason: object = "") -> None:
        """Count something that is odd but usable, such as a greyscale picture."""
        self.counts[kind] += 1
        if self.strict:
            detail = f" ({' '.join(str(reason).split())})" if reason and str(reason) != kind else ""
            raise UserError(f"{file}: {kind}{detail}; leave out --strict to count such files and go on")


def clean_captions(texts: Iterable[Any]) -> tuple[str, ...]:
    """Stripped, with newlines and other white space folded to single spaces; empty ones and non-texts left out."""
    folded = (" ".join(text.split()) for text in texts if isinstance(text, str))
    return tuple(text for text in folded if text)


def import_pictures(
    raws: Iterable[RawPicture], resolution: tuple[int, int], report: Report, *, transform: Transform = "center-crop",
    box_scale: float | None = None, max_images: int | None = None, num_threads: int = 1,
) -> Iterator[Picture]:
    """Decode, crop, bring to RGB and to `resolution` = (width, height), in the order given; stop at `max_images`.

    box_scale: crop to the square of `crop_to_box` first. Damaged and greyscale pictures go into the report.
    """
    num_made = 0
    if max_images is not None and max_images < 1:
        return

    def work(raw: RawPicture) -> tuple[RawPicture, np.ndarray | Exception, bool]:
        try:
            image, grey = _load(raw, resolution, transform, box_scale)
        except PICTURE_ERRORS as error:
            return raw, error, False
        return raw, image, grey

    for raw, image, grey in _ordered_map(work, raws, num_threads):
        if isinstance(image, Exception):
            report.defect("damaged picture", raw.name, image)
            continue
        if grey:
            report.met("greyscale picture", raw.name)
        yield Picture(image, raw.id, raw.captions, raw.split)
        num_made += 1
        if num_made == max_images:
            return


def crop_to_box(picture: Image.Image, box: tuple[float, float, float, float], scale: float) -> Image.Image:
    """The square of half side scale * max(width, height) about the centre of `box` = (x, y, width, height), clipped.

    AttnGAN and its successors prepare CUB with scale 0.75, so that the bird fills most of the picture.
    """
    x, y, width, height = box
    half = int(max(width, height) * scale)
    middle_x, middle_y = int((2 * x + width) / 2), int((2 * y + height) / 2)
    return picture.crop((max(0, middle_x - half), max(0, middle_y - half),
                         min(picture.width, middle_x + half), min(picture.height, middle_y + half)))


def import_info(source: str, transform: str, report: Report, **more: Any) -> dict[str, Any]:
    """Provenance for `dataset.json`; the report's own containers, which fill up during the import."""
    return {"source": source, "licence": "that of the source pictures", "attribution": "", "resize_filter": RESIZE_FILTER,
            "transform": transform, **more, "defects": report.counts, "skipped": report.skipped}


def _load(raw: RawPicture, resolution: tuple[int, int], transform: Transform,
          box_scale: float | None) -> tuple[np.ndarray, bool]:
    data = raw.data if isinstance(raw.data, bytes) else raw.data.read_bytes()
    with Image.open(io.BytesIO(data)) as probe:
        grey = probe.mode in _GREY_MODES
    picture = load_rgb(io.BytesIO(data))
    if box_scale is not None and raw.box is not None:
        picture = crop_to_box(picture, raw.box, box_scale)
        if 0 in picture.size:
            raise ValueError(f"the bounding box {raw.box} lies outside the picture")
    return np.asarray(resize(picture, resolution, transform)), grey


def _ordered_map(work: Any, items: Iterable[Any], num_threads: int) -> Iterator[Any]:
    """`map(work, items)` in threads, in order, never more than a few items ahead of the consumer."""
    pending: deque[Future] = deque()
    pool = ThreadPoolExecutor(max(1, num_threads), thread_name_prefix="import")
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= _AHEAD * max(1, num_threads):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def default_threads() -> int:
    """As many as this process has cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
