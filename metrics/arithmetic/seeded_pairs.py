"""Seeded pairs of different pictures: with one caption, or with different ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

_SEED = 0


def differing(keys: Sequence[Hashable], num: int) -> np.ndarray:
    """At most `num` pairs of pictures whose keys differ, int64 [n, 2]. A pair may come twice."""
    number: dict[Hashable, int] = {}
    codes = np.array([number.setdefault(key, len(number)) for key in keys])
    pairs = np.random.default_rng(_SEED).integers(0, len(keys), (4 * num, 2))
    return pairs[codes[pairs[:, 0]] != codes[pairs[:, 1]]][:num]


def sharing(keys: Sequence[Iterable[Hashable]], num: int, at_least: int = 2) -> np.ndarray:
    """`num` pairs of pictures that have a key in common, int64 [num, 2]. A pair may come twice.

    No pairs, [0, 2], if fewer than `at_least` pictures share a key with another one.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, row_keys in enumerate(keys):
        for key in dict.fromkeys(row_keys):
            members[key].append(row)
    groups: dict[int, list[list[int]]] = defaultdict(list)
    for rows in members.values():
        for row in rows if len(rows) > 1 else ():
            groups[row].append(rows)
    if len(groups) < at_least:
        return np.empty((0, 2), np.int64)
    stream, first = np.random.default_rng(_SEED), sorted(groups)
    pairs = []
    for row in stream.choice(first, num).tolist():
        rows = groups[row][stream.integers(len(groups[row]))]
        other = rows[stream.integers(len(rows) - 1)]
        pairs.append((row, rows[-1] if other == row else other))
    return np.array(pairs, np.int64)
