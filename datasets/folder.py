"""Import of a folder of captioned pictures: `NAME.txt` beside each picture (a caption a line), or one `captions.jsonl`.

A picture that cannot be used is skipped with its reason. Embedded colour profiles are not applied.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps

from datasets.archive import PICTURE_ERRORS, SPLITS, Picture
from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from torch_utils.rng import seed_for

Transform = Literal["center-crop", "pad", "stretch"]

CAPTIONS_FILE = "captions.jsonl"
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
RESIZE_FILTER = "lanczos (Pillow)"


@dataclass(frozen=True)
class Source:
    """A picture file that may be imported. id: its path below the source folder, with forward slashes."""

    path: Path
    id: str
    captions: tuple[str, ...]
    split: str


@dataclass
class ImportReport:
    """What was left out, each with its reason; grows while pictures are read."""

    skipped: list[dict[str, str]] = field(default_factory=list)

    def skip(self, file: str, reason: object) -> None:
        self.skipped.append({"file": file, "reason": " ".join(str(reason).split())})


def find_sources(folder: str | os.PathLike, report: ImportReport, test_share: float = 0.0) -> list[Source]:
    """All pictures with captions below `folder`, sorted by path (in file order with a captions.jsonl).

    test_share: see `split_of`; a split that captions.jsonl names stays.
    Raises `UserError` for a missing folder and for a malformed captions.jsonl, naming the line and the key.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--source {folder}: no such folder")
    if (folder / CAPTIONS_FILE).is_file():
        return _from_captions_file(folder, report, test_share)
    sources = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file():
            name = path.relative_to(folder).as_posix()
            captions = _captions_beside(path, name, report)
            if captions:
                sources.append(Source(path, name, captions, split_of(name, test_share)))
    if not sources and not report.skipped:
        raise UserError(f"--source {folder}: no pictures found (looked for {', '.join(sorted(PICTURE_SUFFIXES))})")
    return sources


def split_of(name: str, test_share: float) -> str:
    """'test' for about that share of all names, by their hash alone: a picture keeps its side when others come or go."""
    return "test" if seed_for("folder split", name) < test_share * 2 ** 63 else "train"


def folder_pictures(
    sources: Iterable[Source],
    resolution: tuple[int, int],
    report: ImportReport,
    transform: Transform = "center-crop",
    max_images: int | None = None,
) -> Iterator[Picture]:
    """Read, turn upright, bring to RGB over white, resize to `resolution` = (width, height); stop at `max_images`."""
    num_made = 0
    for source in sources:
        if max_images is not None and num_made >= max_images:
            return
        try:
            image = resize(load_rgb(source.path), resolution, transform)
        except PICTURE_ERRORS as error:
            report.skip(source.id, error)
            continue
        num_made += 1
        yield Picture(np.asarray(image), source.id, source.captions, source.split)


def folder_info(folder: str | os.PathLike, transform: Transform, report: ImportReport,
                test_share: float = 0.0) -> dict[str, Any]:
    """Provenance for `dataset.json`; `skipped` is the report's own list and fills up during the import."""
    return {
        "source": f"folder {Path(folder).resolve().name}",
        "licence": "that of the source pictures",
        "attribution": "",
        "resize_filter": RESIZE_FILTER,
        "transform": transform,
        "split_rule": f"{test_share:.0%} of file names by their hash are test, where captions.jsonl names no split",
        "skipped": report.skipped,
    }


def load_rgb(file: str | os.PathLike | BinaryIO) -> Image.Image:
    """A picture file as 8-bit RGB: EXIF rotation applied, 16 bits scaled to 8, transparency over white, first frame.

    Raises what Pillow raises for damaged files, and `ValueError` for pixel formats without a known range.
    """
    with Image.open(file) as opened:
        opened.load()
        picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I"):
        return _from_16_bit(picture).convert("RGB")
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range; convert the picture to 8 or 16 bits")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def resize(picture: Image.Image, resolution: tuple[int, int], transform: Transform) -> Image.Image:
    """Lanczos to (width, height): the largest centred crop of that shape, padded with white, or stretched."""
    width, height = resolution
    if transform == "pad":
        return ImageOps.pad(picture, resolution, Image.Resampling.LANCZOS, color="white")
    box = (0.0, 0.0, float(picture.width), float(picture.height))
    if transform == "center-crop":
        scale = min(picture.width / width, picture.height / height)
        left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
        box = (max(left, 0.0), max(top, 0.0), min(left + width * scale, box[2]), min(top + height * scale, box[3]))
    return picture.resize(resolution, Image.Resampling.LANCZOS, box=box)


def _from_16_bit(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture).astype(np.int64)  # also from I;16B
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels have no known range; convert the picture to 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _captions_beside(path: Path, name: str, report: ImportReport) -> tuple[str, ...]:
    text_file = path.with_suffix(".txt")
    try:
        lines = text_file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        report.skip(name, f"no caption file {text_file.name}")
        return ()
    except (OSError, UnicodeDecodeError) as error:
        report.skip(name, f"caption file {text_file.name} cannot be read: {error}")
        return ()
    captions = tuple(line.strip() for line in lines if line.strip())
    if not captions:
        report.skip(name, f"caption file {text_file.name} is empty")
    return captions


def _from_captions_file(folder: Path, report: ImportReport, test_share: float) -> list[Source]:
    sources: dict[str, Source] = {}
    path = folder / CAPTIONS_FILE
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source = _parse_line(folder, line, f"{path}, line {number}", test_share)
        if source.id in sources:
            raise UserError(f"{path}, line {number}: {source.id} is listed twice; put all its captions in one line")
        if not source.captions:
            report.skip(source.id, "no captions")
        elif not source.path.is_file():
            report.skip(source.id, "no such file")
        sources[source.id] = source
    return [s for s in sources.values() if s.captions and s.path.is_file()]


def _parse_line(folder: Path, line: str, where: str, test_share: float) -> Source:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(record, dict):
        raise UserError(f'{where}: expected {{"file": ..., "captions": [...]}}, got {line.strip()[:60]}')
    keys = ("file", "captions", "split")
    for key in record:
        if key not in keys:
            raise UserError(f"{where}: unknown key {key!r}; {nearest(key, keys)}")
    for key in keys[:2]:
        if key not in record:
            raise UserError(f"{where}: key {key!r} is missing")
    file, captions, split = record["file"], record["captions"], record.get("split")
    if not isinstance(file, str) or not file or not (folder / file).resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{where}: 'file' must be a path below the source folder, got {file!r}")
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise UserError(f"{where}: 'captions' must be a list of texts, got {captions!r}")
    if split not in (None, *SPLITS):
        raise UserError(f"{where}: 'split' must be one of {', '.join(SPLITS)}, got {split!r}")
    texts = tuple(caption.strip() for caption in captions if caption.strip())
    name = Path(file).as_posix()
    return Source(folder / file, name, texts, split or split_of(name, test_share))
