"""The names of the one or two main colours of a drawing.

Each pixel of a flat area counts for the named colour that is nearest in CIELAB. Outlines do not
count, because no pixel of a thin stroke has equal neighbours. The background does not count,
because it is transparent.
"""

from __future__ import annotations

import numpy as np

# Anchor colours of each name. A name that people use for a wide range of colours has several.
_ANCHORS = {
    "red": ("#ea5a47", "#d22f27", "#ff0000", "#e00030"),
    "dark red": ("#781e32", "#8b0000"),
    "orange": ("#f4aa41", "#e27022", "#ff8c00", "#ff6000"),
    "yellow": ("#fcea2b", "#f1b31c", "#ffff00", "#ffd500", "#fff59a"),
    "light green": ("#b1cc33", "#a6e37a", "#90ee90"),
    "green": ("#5c9e31", "#008000", "#00c000", "#2ecc71", "#00ff00"),
    "dark green": ("#186648", "#0b4d20"),
    "turquoise": ("#40e0d0", "#20a0a0"),
    "light blue": ("#92d3f5", "#add8e6", "#87ceeb"),
    "blue": ("#61b2e4", "#2080e0", "#3060ff", "#0000ff"),
    "dark blue": ("#1e50a0", "#000080", "#203a70"),
    "purple": ("#8967aa", "#b399c8", "#800080", "#6a3fb5", "#c000ff"),
    "pink": ("#ffa7c0", "#e67a94", "#ff69b4", "#ff00c0"),
    "beige": ("#fadcbc", "#debb90", "#f5e6c8"),
    "brown": ("#a57939", "#6a462f", "#c19a65", "#8b4513"),
    "dark brown": ("#352318",),
    "grey": ("#9b9b9a", "#d0cfce", "#808080", "#666666", "#b8b8b8"),
    "black": ("#000000", "#3f3f3f", "#202020"),
    "white": ("#ffffff", "#f2f2f2"),
}
COLOUR_NAMES = tuple(_ANCHORS)
# A colour is named if it covers this share of the flat area. Black and white need a larger share,
# because they are mostly eyes, teeth and thick lines.
_SECOND_SHARE = 0.2
_NEUTRAL_SHARE = 0.35
_FLAT_DIFFERENCE = 6  # of 255, per channel: neighbours that differ by less count as equal


def dominant_colours(rgba: np.ndarray) -> tuple[str, ...]:
    """One or two colour names, the larger area first; none if nothing is drawn.

    rgba: uint8 [H, W, 4] with a transparent background. If the drawing has no flat area, as with
    thin lines alone, all of its opaque pixels count.
    """
    flat = _flat(rgba) & (rgba[..., 3] >= 250)
    pixels = rgba[flat] if flat.any() else rgba[rgba[..., 3] >= 128]
    if not len(pixels):
        return ()
    shares = _shares(pixels[:, :3])
    coloured = {name: share for name, share in shares.items() if name not in ("black", "white")}
    strong = {
        name: share
        for name, share in shares.items()
        if share >= (_SECOND_SHARE if name in coloured else _NEUTRAL_SHARE)
    }
    chosen = strong or coloured or shares
    ranked = sorted(chosen, key=lambda name: (-chosen[name], name))
    return tuple(ranked[:2] if strong else ranked[:1])


def _flat(rgba: np.ndarray) -> np.ndarray:
    """bool [H, W]: True where all four neighbours have the same colour up to `_FLAT_DIFFERENCE`.

    Antialiased edges and thin strokes are False.
    """
    values = np.pad(rgba.astype(np.int16), ((1, 1), (1, 1), (0, 0)), mode="edge")
    centre = values[1:-1, 1:-1]
    neighbours = (values[:-2, 1:-1], values[2:, 1:-1], values[1:-1, :-2], values[1:-1, 2:])
    return np.all([np.abs(centre - n).max(axis=-1) <= _FLAT_DIFFERENCE for n in neighbours], axis=0)


def _shares(rgb: np.ndarray) -> dict[str, float]:
    """Share of the pixels by colour name. rgb: uint8 [N, 3]."""
    codes, counts = np.unique(
        rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1]), return_counts=True
    )
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    distance = np.linalg.norm(_lab(colours)[:, None] - _ANCHOR_LAB[None], axis=-1)
    shares: dict[str, float] = {}
    for anchor, count in zip(distance.argmin(axis=1), counts, strict=True):
        name = _ANCHOR_NAMES[anchor]
        shares[name] = shares.get(name, 0.0) + count / counts.sum()
    return shares


def _lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB uint8 [N, 3] -> CIELAB [N, 3] under D65 (IEC 61966-2-1 and CIE 15)."""
    encoded = rgb / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.0890])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1
    )


_ANCHOR_NAMES = [name for name, codes in _ANCHORS.items() for _ in codes]
_ANCHOR_LAB = _lab(
    np.array([list(bytes.fromhex(code[1:])) for codes in _ANCHORS.values() for code in codes])
)
