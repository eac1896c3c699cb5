"""The seeds that a command line names, such as 0-3,7."""

from __future__ import annotations

import numbers
import re

from dnnlib.errors import UserError

MAX_SEEDS = 1_000_000


def parse_seeds(text: str, option: str = "--seeds") -> list[int]:
    """'0-3,7' -> [0, 1, 2, 3, 7]; at most `MAX_SEEDS`. Raises `UserError`."""
    ranges: list[range] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", part)
        if match is None:
            raise UserError(f"{option} {text}: expected numbers and ranges such as 0-3,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(f"{option} {text}: the range {part.strip()} runs backwards")
        ranges.append(range(first, last + 1))
    if sum(map(len, ranges)) > MAX_SEEDS:
        raise UserError(f"{option} {text}: at most {MAX_SEEDS} seeds a run")
    return [seed for one in ranges for seed in one]


def check_seed(seed: object) -> None:
    """Raises `UserError` unless `seed` is a whole number from 0."""
    if not isinstance(seed, numbers.Integral) or seed < 0:
        raise UserError(f"seed: must be a whole number from 0, got {seed!r}")
