"""Draw a sheet of a data set's pictures with their captions, and compute the set's statistics."""

from __future__ import annotations

import math
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from datasets.statistics import SIZE_KEYS, Statistics, num_repeated, pixel_digest
from datasets.text_image import Record, TextImageDataset
from dnnlib.errors import UserError
from torch_utils.pictures import png_with, save_png
from torch_utils.rng import generator_for

MARK = "contact sheet"  # key of the PNG text by which we recognise a sheet of this program
_CELL_PX, _GAP_PX, _FONT_PX, _LINE_PX = 224, 12, 13, 17
_MAX_LINES = 8
_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d\u201e\u2013\u2014", '\'\'"""--')


def check_sheet(dest: Path, option: str = "--dest") -> None:
    """Raise `UserError` if the name does not end in .png."""
    if dest.suffix.lower() != ".png":
        raise UserError(f"{option} {dest}: the sheet is a PNG; give a name that ends in .png")


def draw_sheet(dataset: TextImageDataset, dest: Path, num_images: int, seed: int) -> int:
    """Write a sheet of `num_images` pictures, drawn by the seed and sorted as in the data set.

    Returns the number of pictures on the sheet, which is smaller in a small data set.
    Raises `UserError` if `dest` exists and is not a sheet.
    """
    check_sheet(dest)
    order = torch.randperm(len(dataset), generator=generator_for(seed, "contact sheet"))
    indices = sorted(order[:num_images].tolist())
    sheet = contact_sheet(dataset[index] for index in indices)
    save_png(
        dest,
        torch.from_numpy(np.array(sheet)).permute(2, 0, 1),
        {MARK: dataset.name},
        ours=png_with(MARK),
    )
    return len(indices)


def contact_sheet(records: Iterable[Record], columns: int | None = None) -> Image.Image:
    """Pictures in rows, each with its id and captions below; long texts are cut after a few lines.

    columns: number of pictures in a row; None makes as many rows as columns.
    """
    font = ImageFont.load_default(_FONT_PX)
    cells = [(_thumbnail(record.image), _text_lines(record, font)) for record in records]
    columns = columns or math.ceil(math.sqrt(len(cells)))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [
        max(picture.height for picture, _ in row)
        + _GAP_PX
        + _LINE_PX * max(len(lines) for _, lines in row)
        for row in rows
    ]
    step = _CELL_PX + _GAP_PX
    sheet = Image.new(
        "RGB", (columns * step + _GAP_PX, sum(heights) + _GAP_PX * len(rows)), "white"
    )
    drawing, top = ImageDraw.Draw(sheet), _GAP_PX
    for row, height in zip(rows, heights, strict=True):
        below = top + max(picture.height for picture, _ in row) + 3
        for column, (picture, lines) in enumerate(row):
            left = _GAP_PX + column * step
            sheet.paste(picture, (left, top))
            for number, (line, colour) in enumerate(lines):
                drawing.text((left, below + number * _LINE_PX), line, colour, font)
        top += height + _GAP_PX
    return sheet


def dataset_table(dataset: TextImageDataset, records: Iterable[Record]) -> dict[str, Any]:
    """The table of `datasets.statistics` for these pictures of a data set.

    If the table covers all splits, the sizes are those of the source pictures, which the import
    wrote into `dataset.json`. Else the sizes are those of the pictures in the data set.
    """
    statistics, digests = Statistics(sizes_of="pictures in the data set"), array("Q")
    for record in records:
        image = record.image.permute(1, 2, 0).contiguous().numpy()
        statistics.add((image.shape[1], image.shape[0]), record.captions)
        digests.append(pixel_digest(image))
    table = statistics.table(num_repeated(np.array(digests, np.uint64)))
    imported = dataset.info.get("statistics")
    if dataset.split == "all" and isinstance(imported, dict):
        table |= {key: imported[key] for key in SIZE_KEYS if key in imported}
    return table


def _thumbnail(image: torch.Tensor) -> Image.Image:
    """The picture, uint8 [3, H, W], scaled to fit a cell; small pictures by a whole factor."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    factor = _CELL_PX // max(picture.size)
    if factor >= 1:
        size = picture.width * factor, picture.height * factor
        return picture.resize(size, Image.Resampling.NEAREST)
    picture.thumbnail((_CELL_PX, _CELL_PX), Image.Resampling.LANCZOS)
    return picture


def _text_lines(record: Record, font: Any) -> list[tuple[str, str]]:
    """(text, colour) of each line below a picture: the id, then the wrapped captions."""
    lines = [(line, "grey") for line in islice(_wrapped(record.id, font), 1)]
    if not record.captions:
        return [*lines, ("(no captions)", "grey")]
    wrapped = (line for caption in record.captions for line in _wrapped(caption, font))
    texts = [(line, "black") for line in islice(wrapped, _MAX_LINES + 1)]
    if len(texts) > _MAX_LINES:
        texts = [*texts[: _MAX_LINES - 1], ("...", "grey")]
    return lines + texts


def drawable(text: str) -> str:
    """The text in the letters of Pillow's built-in font: no accents, and ? for other scripts."""
    parts = unicodedata.normalize("NFKD", text.translate(_QUOTES))
    return "".join(
        letter if letter.isascii() else "?" for letter in parts if not unicodedata.combining(letter)
    )


def _wrapped(text: str, font: Any) -> Iterator[str]:
    """Lines no wider than a cell, broken between words or inside a word that is too long.

    Each line is measured when it is asked for: a caption may have thousands of letters.
    """
    line = ""
    for word in drawable(text).split():
        if line and font.getlength(f"{line} {word}") <= _CELL_PX:
            line = f"{line} {word}"
            continue
        if line:
            yield line
        line = word
        while font.getlength(line) > _CELL_PX:
            cut = _fitting(line, font)
            yield line[:cut]
            line = line[cut:]
    if line:
        yield line


def _fitting(word: str, font: Any) -> int:
    """How many of the first letters of a word fit into a cell; at least one."""
    longer = range(2, len(word) + 1)
    return 1 + bisect_right(longer, _CELL_PX, key=lambda n: font.getlength(word[:n]))
