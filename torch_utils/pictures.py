"""PNG files of single pictures and of grids of pictures."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path
from dnnlib.ownership import Rule


def png_bytes(
    image: torch.Tensor, text: Mapping[str, str] | None = None, compression: int = 6
) -> bytes:
    """A uint8 picture [3, H, W] on the CPU as the bytes of a PNG file.

    text: {key: value} for the file's text chunks. compression: 0 (none) to 9.
    """
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    file = io.BytesIO()
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(file, format="PNG", pnginfo=info, compress_level=compression)
    return file.getvalue()


def save_png(
    path: str | Path, image: torch.Tensor, text: Mapping[str, str] | None = None, *, ours: Rule
) -> None:
    """Write `png_bytes` of the picture to a file, atomically.

    ours: as in `dnnlib.files.atomic_path`.
    """
    data = png_bytes(image, text)
    with atomic_path(path, ours=ours) as temporary:
        temporary.write_bytes(data)


def png_text(path: Path) -> dict[str, str]:
    """{key: value} of the text chunks before the pixels; empty for any other file."""
    from PIL.PngImagePlugin import PngImageFile

    try:
        # Not Image.open, which refuses more than 179 million pixels; none is decoded here.
        with library_errors(UserError), PngImageFile(path) as picture:
            found = picture.info.items()
            return {str(key): value for key, value in found if isinstance(value, str)}
    except UserError:  # not a PNG file
        return {}


def png_with(*keys: str) -> Rule:
    """Rule of `dnnlib.ownership` for pictures that `save_png` wrote with text of all these keys."""

    def rule(path: Path) -> str | None:
        if set(keys) <= set(png_text(path)):
            return None
        return f"is no picture that this program made (no PNG text {' and '.join(keys)})"

    return rule


def grid(images: Sequence[torch.Tensor], columns: int | None = None) -> torch.Tensor:
    """Pictures [3, H, W] of one size -> one picture [3, rows * H, columns * W], row by row.

    columns: None makes the grid as square as possible. Unused cells of the last row are white (255
    for uint8). torchvision's `make_grid` is not used: its import takes two seconds.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    white = torch.full_like(images[0], 255)
    cells = torch.stack([*images, *[white] * (-len(images) % columns)])
    rows = cells.unflatten(0, (-1, columns))  # [rows, columns, 3, H, W]
    return rows.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
