"""Draw a small data set: captioned flat shapes in four colours and two sizes."""

from __future__ import annotations

import json
from pathlib import Path

SIDE_PX = 32
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 70, 220),
    "yellow": (235, 210, 40),
}
SIZES = {"small": 0.45, "large": 0.85}  # of half the side


def draw_pictures(folder: Path) -> None:
    """Write 32 PNGs of 32 x 32 pixels and captions.jsonl, for `dataset_tool.py folder`."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    y, x = (np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5) * (2 / SIDE_PX) - 1  # pixel centres in [-1, 1]
    radius = np.hypot(x, y)
    near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    lines = []
    for size, extent in SIZES.items():
        shapes = {
            "circle": radius < extent,
            "square": far < 0.8 * extent,
            "ring": abs(radius - extent) < 0.2,
            "cross": (near < 0.2) & (far < extent),
        }
        for colour, rgb in COLOURS.items():
            for shape, inside in shapes.items():
                picture = np.full((SIDE_PX, SIDE_PX, 3), 255, np.uint8)
                picture[inside] = rgb
                name = f"{size}-{colour}-{shape}.png"
                Image.fromarray(picture).save(folder / name)
                caption = f"a {size} {colour} {shape}"
                lines.append(json.dumps({"file": name, "captions": [caption]}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
