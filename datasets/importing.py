"""Turn the picture files of any source into the pictures of an archive.

Each importer (folder, coco, cub, flowers, lsun, tar_shards, saved_arrow) yields `RawPicture`s.
`import_pictures` decodes and resizes them in threads, keeps their order and reports every defect.
Threads are enough, because Pillow releases the interpreter's lock while it decodes.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image, ImageOps

from datasets.archive import Picture
from datasets.picture_files import Icc, PictureError, load_rgb
from datasets.report import Report
from datasets.statistics import Statistics, num_repeated, pixel_digest
from dnnlib.errors import UserError, library_errors
from dnnlib.names import printable
from torch_utils.rng import seed_for

Transform = Literal["center-crop", "pad", "stretch", "none"]
T = TypeVar("T")
S = TypeVar("S")

RESIZE_FILTER = "lanczos (Pillow)"
BOTH_SPLITS = "picture of both splits"
SHARED_PIXELS = "test picture whose pixels are in train too"
_AHEAD = 4  # pictures that each thread may decode ahead; bounds the memory


@dataclass(frozen=True)
class RawPicture:
    """A picture to import, not decoded yet.

    id: id in the archive. name: name in a report. data: the picture file, or its bytes.
    split: 'train' or 'test'. box: bounding box (x, y, width, height) in pixels, for `crop_to_box`.
    """

    id: str
    name: str
    data: Path | bytes
    captions: tuple[str, ...]
    split: str
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class _Made:
    """A decoded picture. image: uint8 [H, W, 3]. source_size: (width, height) before resizing.

    digest: hash of the pixels. grey: the file holds no colours. met: what was odd, for the report.
    """

    image: np.ndarray
    digest: int
    source_size: tuple[int, int]
    grey: bool
    met: tuple[str, ...]


def import_pictures(
    raws: Iterable[RawPicture],
    resolution: tuple[int, int],
    report: Report,
    *,
    transform: Transform = "center-crop",
    box_scale: float | None = None,
    icc: Icc = "convert",
    max_images: int | None = None,
    num_threads: int = 1,
) -> Iterator[Picture]:
    """Decode pictures, convert them to RGB and resize them, in the given order.

    resolution: (width, height) in pixels. With the transform 'none' pictures keep their sizes, and
        smaller ones are left out.
    report: counts damaged and too small pictures and repeated ids, which are left out; greyscale
        pictures; colour profiles; and, at the end, test pictures with the pixels of a train
        picture. Its statistics are filled in at the end.
    box_scale: if given, crop to the square of `crop_to_box` before resizing.
    max_images: stop after this number of pictures, at least 1.
    """
    splits: dict[str, str] = {}  # by id
    digests = {"train": array("Q"), "test": array("Q")}
    statistics = Statistics()

    def work(raw: RawPicture) -> tuple[RawPicture, _Made | PictureError]:
        try:
            return raw, _make(raw, resolution, transform, box_scale, icc)
        except PictureError as error:
            return raw, error

    def missing() -> float:
        return math.inf if max_images is None else max_images - len(splits)

    for raw, made in _ordered_map(work, raws, num_threads, missing):
        if isinstance(made, PictureError):
            report.defect("damaged picture", raw.name, made.reason)
            continue
        if transform == "none" and not _reaches(made.source_size, resolution):
            size = "{}x{}".format(*made.source_size)
            report.defect("picture smaller than {}x{}".format(*resolution), raw.name, size)
            continue
        identity = printable(raw.id)
        if identity in splits:
            same = splits[identity] == raw.split
            report.defect("id that is there twice" if same else BOTH_SPLITS, raw.name)
            continue
        splits[identity] = raw.split
        if made.grey:
            report.met("greyscale picture", raw.name)
        for kind in made.met:
            report.note(kind)
        digests[raw.split].append(made.digest)
        statistics.add(made.source_size, raw.captions)
        yield Picture(made.image, identity, raw.captions, raw.split)
        if len(splits) == max_images:
            break
    train, test = (np.array(digests[split], np.uint64) for split in ("train", "test"))
    report.note(SHARED_PIXELS, int(np.isin(test, train).sum()))
    report.statistics.update(statistics.table(num_repeated(np.concatenate([train, test]))))


def fair_order(raws: Sequence[RawPicture]) -> list[RawPicture]:
    """The pictures in a pseudo-random order that depends on their ids alone.

    The first N of them are a random draw over all classes, whereas the first N of a folder's
    listing would be its first classes.
    """
    return sorted(raws, key=lambda raw: seed_for("part of an import", raw.id))


def keep_apart(raws: list[RawPicture], report: Report) -> list[RawPicture]:
    """The pictures without those of train whose id is also in test, so that test stays unseen.

    The removed pictures are counted in the report. Raises `UserError` if no train picture is left.
    """
    test = {raw.id for raw in raws if raw.split == "test"}
    kept = [raw for raw in raws if raw.split == "test" or raw.id not in test]
    if len(kept) == len(test) < len(raws):
        raise UserError(
            f"all {len(raws) - len(kept)} pictures of train are in test too, such as "
            f"{kept[0].name}; give files of different pictures, or one split alone"
        )
    for raw in raws:
        if raw.split != "test" and raw.id in test:
            report.defect(BOTH_SPLITS, raw.name, f"{BOTH_SPLITS}: kept in test")
    return kept


def crop_to_box(
    picture: Image.Image, box: tuple[float, float, float, float], scale: float
) -> Image.Image:
    """Crop to the square around the centre of a bounding box, clipped to the picture.

    box: (x, y, width, height) in pixels. The square's side is 2 * scale * max(width, height).
    AttnGAN and its successors prepare CUB with scale 0.75; the bird then fills most of the picture.
    """
    x, y, width, height = box
    half = int(max(width, height) * scale)
    middle_x, middle_y = int((2 * x + width) / 2), int((2 * y + height) / 2)
    return picture.crop(
        (
            max(0, middle_x - half),
            max(0, middle_y - half),
            min(picture.width, middle_x + half),
            min(picture.height, middle_y + half),
        )
    )


def resize(picture: Image.Image, resolution: tuple[int, int], transform: Transform) -> Image.Image:
    """Resize to resolution = (width, height) with Lanczos's filter.

    transform: 'center-crop' takes the largest centred crop of that aspect ratio, 'pad' pads the
    picture with white, 'stretch' ignores the aspect ratio, 'none' keeps the picture as it is.
    """
    width, height = resolution
    if transform == "none":
        return picture
    if transform == "pad":
        return ImageOps.pad(picture, resolution, Image.Resampling.LANCZOS, color="white")
    box = (0.0, 0.0, float(picture.width), float(picture.height))
    if transform == "center-crop":
        scale = min(picture.width / width, picture.height / height)
        left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
        right, bottom = min(left + width * scale, box[2]), min(top + height * scale, box[3])
        box = (max(left, 0.0), max(top, 0.0), right, bottom)
    return picture.resize(resolution, Image.Resampling.LANCZOS, box=box)


def _reaches(size: tuple[int, int], least: tuple[int, int]) -> bool:
    """Whether a size (width, height) is at least as large as another one on both sides."""
    return size[0] >= least[0] and size[1] >= least[1]


def import_info(
    source: str, transform: str, report: Report, *, icc: Icc = "convert", **more: Any
) -> dict[str, Any]:
    """The entries of `dataset.json` on the source and the import.

    The statistics, counts and list of skipped files are the report's own objects, not copies: they
    are filled during the import. more: further entries.
    """
    origin = {
        key: value
        for key, value in (
            ("captions_from", report.captions_from),
            ("split_rule", report.split_rule),
        )
        if value
    }
    return {
        "source": source,
        "licence": "that of the source pictures",
        "attribution": "",
        "resize_filter": "none" if transform == "none" else RESIZE_FILTER,
        "transform": transform,
        "colour_profiles": icc,
        **origin,
        **more,
        "statistics": report.statistics,
        "defects": report.counts,
        "skipped": report.skipped,
    }


def _make(
    raw: RawPicture,
    resolution: tuple[int, int],
    transform: Transform,
    box_scale: float | None,
    icc: Icc,
) -> _Made:
    loaded = load_rgb(raw.data, raw.name, icc=icc)
    picture = loaded.picture
    if box_scale is not None and raw.box is not None:
        picture = crop_to_box(picture, raw.box, box_scale)
        if 0 in picture.size:
            raise PictureError(raw.name, f"the bounding box {raw.box} lies outside the picture")
    source_size = picture.size
    with library_errors(lambda reason: PictureError(raw.name, reason)):
        image = np.asarray(resize(picture, resolution, transform))
    return _Made(image, pixel_digest(image), source_size, loaded.grey, loaded.met)


def _ordered_map(
    work: Callable[[T], S], items: Iterable[T], num_threads: int, missing: Callable[[], float]
) -> Iterator[S]:
    """`map(work, items)` in threads and in order, at most `_AHEAD` items a thread ahead.

    missing: the number of results that the caller still wants. No item beyond them is drawn, since
        drawing counts the defects before it, and they must not depend on the number of threads.
    """
    source, most = iter(items), _AHEAD * max(1, num_threads)
    pending: deque[Future] = deque()
    pool = ThreadPoolExecutor(max(1, num_threads), thread_name_prefix="import")
    try:
        while True:
            for item in itertools.islice(source, int(min(most, missing())) - len(pending)):
                pending.append(pool.submit(work, item))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
