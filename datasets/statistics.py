"""Statistics of a data set: sizes, aspect ratios, captions a picture, words a caption, duplicates.

The statistics are counted in one pass over the pictures. They need a constant amount of memory, and
eight bytes a picture to find duplicates.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

MIN_WORDS, MIN_LETTERS = 2, 4
# An ideograph or kana counts as one word, because these scripts have no spaces between words.
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff]|[^\\s\u3040-\u30ff\u3400-\u9fff]+")

# Lower ends of the bins.
_SIDES_PX = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_ASPECTS = (0, 0.5, 0.67, 0.8, 0.95, 1.05, 1.25, 1.5, 2)
_CAPTIONS = (0, 1, 2, 3, 4, 5, 6, 11, 21)
_WORDS = (0, 1, 2, 4, 6, 8, 11, 16, 21, 31, 51)
_TITLES = {
    "shorter_side_px": "Shorter side of {sizes_of} in pixels",
    "width_by_height": "Width / height of {sizes_of}",
    "captions_a_picture": "Captions a picture",
    "words_a_caption": "Words a caption",
}
SIZE_KEYS = ("sizes_of", "smallest", "largest", "shorter_side_px", "width_by_height")


class Statistics:
    """Counts pictures and captions; `table` returns the result.

    sizes_of: which pictures the sizes belong to, in words.
    """

    def __init__(self, sizes_of: str = "source pictures") -> None:
        self._sizes_of = sizes_of
        self._sides: Counter[int] = Counter()
        self._aspects: Counter[int] = Counter()
        self._captions: Counter[int] = Counter()
        self._words: Counter[int] = Counter()
        self._extremes: list[tuple[int, int]] = []
        self._near_empty = 0

    def add(self, size: tuple[int, int], captions: Sequence[str]) -> None:
        """Add one picture. size: (width, height) in pixels."""
        width, height = size
        self._sides[_bin(_SIDES_PX, min(size))] += 1
        self._aspects[_bin(_ASPECTS, width / height)] += 1
        self._captions[_bin(_CAPTIONS, len(captions))] += 1
        both = sorted({*self._extremes, size}, key=lambda one: (one[0] * one[1], one))
        self._extremes = [both[0], both[-1]]
        for caption in captions:
            words = len(_WORD.findall(caption))
            self._words[_bin(_WORDS, words)] += 1
            self._near_empty += words < MIN_WORDS or sum(map(str.isalpha, caption)) < MIN_LETTERS

    def table(self, num_duplicates: int) -> dict[str, Any]:
        """The entry of `dataset.json`: counts by bin, in the order of the bins, without empty bins.

        num_duplicates: see `num_repeated`.
        """
        return {
            "sizes_of": self._sizes_of,
            "smallest": list(self._extremes[0]) if self._extremes else None,
            "largest": list(self._extremes[-1]) if self._extremes else None,
            "shorter_side_px": _named(self._sides, _SIDES_PX, 1),
            "width_by_height": _named(self._aspects, _ASPECTS, 0),
            "captions_a_picture": _named(self._captions, _CAPTIONS, 1),
            "words_a_caption": _named(self._words, _WORDS, 1),
            "duplicate_pictures": num_duplicates,
            "near_empty_captions": self._near_empty,
        }


def table_lines(table: dict[str, Any]) -> Iterator[str]:
    """The table as lines of plain text, one line for each histogram."""
    for key, title in _TITLES.items():
        counts = table[key]
        total = sum(counts.values())
        if total:
            yield f"{title.format_map(table)}: " + ", ".join(
                f"{name}: {count} ({count / total:.0%})" for name, count in counts.items()
            )
        if key == "shorter_side_px" and table["smallest"]:
            small, large = ("x".join(map(str, table[which])) for which in ("smallest", "largest"))
            yield f"Smallest {small}, largest {large}"
    yield f"Duplicates: {table['duplicate_pictures']} pictures repeat the pixels of an earlier one"
    if table["words_a_caption"]:
        yield (
            f"Near-empty captions (fewer than {MIN_WORDS} words or {MIN_LETTERS} letters): "
            f"{table['near_empty_captions']}"
        )


def pixel_digest(image: np.ndarray) -> int:
    """A hash of the pixels, 64 bits. image: uint8 [H, W, 3]."""
    return int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest())


def num_repeated(digests: np.ndarray) -> int:
    """The number of pictures whose pixels repeat an earlier picture's. digests: uint64 [N]."""
    return len(digests) - len(np.unique(digests))


def _bin(edges: Sequence[float], value: float) -> int:
    return bisect.bisect_right(edges, value) - 1


def _named(counts: Counter[int], edges: Sequence[float], step: int) -> dict[str, int]:
    """Counts by the name of their bin, such as '64-127'.

    step: the distance from a bin's upper end to the next bin: 1 for whole numbers, 0 for others.
    """
    names = {}
    for place, count in sorted(counts.items()):
        low = edges[place]
        high = edges[place + 1] - step if place + 1 < len(edges) else None
        names[f"{low}+" if high is None else f"{low}" if high == low else f"{low}-{high}"] = count
    return names
