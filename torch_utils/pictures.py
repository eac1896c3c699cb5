"""Pictures as PNG files: one, or many in a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path
from dnnlib.ownership import Rule


def save_png(path: str | Path, image: torch.Tensor, text: Mapping[str, str] | None = None, *,
             ours: Rule) -> None:
    """Write a uint8 picture [3, H, W] atomically; `text` becomes PNG text chunks, `ours` is as in
    `atomic_path`.
    """
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    with atomic_path(path, ours=ours) as temporary:
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(temporary, format="PNG", pnginfo=info)


def png_with(*keys: str) -> Rule:
    """The rule of ownership for pictures that `save_png` wrote with text under all of these keys.
    """
    def rule(path: Path) -> str | None:
        from PIL import Image

        try:
            with library_errors(UserError), Image.open(path, formats=["PNG"]) as picture:
                found = set(picture.info)
        except UserError:  # another kind of file
            found = set()
        return None if set(
            keys
        ) <= found else f"is no picture that this program made (no PNG text {' and '.join(keys)})"
    return rule


def grid(images: Sequence[torch.Tensor], columns: int | None = None) -> torch.Tensor:
    """Equal-sized pictures [3, H, W] -> one, row by row; as square as possible unless `columns` is given.

    Empty places of the last row are white (255 for uint8).
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    _, height, width = images[0].shape
    sheet = torch.full((3, rows * height, columns * width), 255, dtype=images[0].dtype)
    for i, image in enumerate(images):
        top, left = i // columns * height, i % columns * width
        sheet[:, top:top + height, left:left + width] = image
    return sheet
