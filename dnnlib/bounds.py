"""Ranges of config fields, written in their types: `lr: Positive = 0.002`."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from dnnlib.errors import UserError


@dataclass(frozen=True)
class Bound:
    """A range of numbers: whether it holds a value, and the rule that an error message states."""

    holds: Callable[[Any], bool]
    rule: str


def at_least(least: int) -> Bound:
    return Bound(lambda value: value >= least, f"must be at least {least}")


NotNegative = Annotated[float, Bound(lambda value: value >= 0, "must not be negative")]
Positive = Annotated[float, Bound(lambda value: value > 0, "must be positive")]
Probability = Annotated[float, Bound(lambda value: 0 <= value <= 1, "is a probability")]
BelowOne = Annotated[float, Bound(lambda value: 0 <= value < 1, "must lie in [0, 1)")]
NotNegativeInt = Annotated[int, Bound(lambda value: value >= 0, "must not be negative")]
AtLeastOne = Annotated[int, at_least(1)]
Widths = Annotated[
    tuple[int, ...], Bound(lambda widths: min(widths, default=1) >= 1, "must be at least 1")
]


def check_bounds(config: object, prefix: str = "") -> None:
    """Raise `UserError` for the first field of a dataclass whose value is out of range.

    prefix: precedes the field's name in the message, such as `loss.`. A field that is None is not
    checked.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    for name, hint in hints.items():
        for bound in getattr(hint, "__metadata__", ()):
            value = getattr(config, name)
            if isinstance(bound, Bound) and value is not None and not bound.holds(value):
                raise UserError(f"{prefix}{name}: {bound.rule}, got {value}")
