"""What tests of huge pictures share: a picture of numbers, drawn tile by tile into a file."""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import Any

import numpy as np

from dnnlib.resumable import resumable_work
from torch_utils.deep_zoom import DeepZoomWriter
from torch_utils.tiled_files import PngWriter, TiffWriter
from torch_utils.tiling import Tiling

WRITERS: dict[str, Any] = {"png": PngWriter, "tiff": TiffWriter, "dzi": DeepZoomWriter}
FACTS = {"snapshot": "0a1b", "seed": "0", "prompt": "an apple -- \u00e4"}
TILING = Tiling(75, 50, 16, 32)


def picture(tiling=TILING):
    """uint8 [height, width, 3]; no two tiles are equal."""
    y, x = np.mgrid[: tiling.height, : tiling.width]
    return np.stack([y * 3 + x, y + x * 7, y ^ x], axis=2).astype(np.uint8)


def draw(target, kind, tiling=TILING, facts=FACTS, pixels=None):
    """As `networks.huge_pictures.draw_huge`, with pixels that are known."""
    pixels = picture(tiling) if pixels is None else pixels
    folder = target.with_name(target.name + ".part")
    with resumable_work(folder, facts | {"format": kind}, tiling.num_tiles) as work:
        writer = WRITERS[kind](work, target, tiling, facts)
        for tile in itertools.islice(tiling.order(), len(work.done), None):
            writer.put(tile, pixels[tile.rows, tile.columns])
        writer.finish()
        work.remove()


def everything(folder):
    """Name and digest of every file below a folder."""
    return {
        os.path.relpath(os.path.join(place, name), folder): hashlib.sha256(
            open(os.path.join(place, name), "rb").read()
        ).hexdigest()
        for place, _, names in os.walk(folder)
        for name in names
    }
