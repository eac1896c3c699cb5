from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from dnnlib.config_codec import from_dict, override, to_dict
from dnnlib.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Circle:
    kind: ClassVar[str] = "circle"
    radius: float = 1.0
    colour: str = "red"


@dataclass(frozen=True, kw_only=True)
class Box:
    kind: ClassVar[str] = "box"
    sides: tuple[int, ...] = (1, 2)
    colour: str = "red"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    shape: Circle | Box
    mode: Literal["fill", "line"] = "fill"
    limit: int | None = None
    names: tuple[str, ...] = ()
    visible: bool = True
    inner: Circle = field(default_factory=Circle)


def test_round_trip_keeps_union_members_and_tuples():
    drawing = Drawing(shape=Box(sides=(3, 4, 5)), limit=7, names=("a", "b"))
    assert from_dict(Drawing, to_dict(drawing)) == drawing


def test_unknown_key_names_the_nearest():
    data = to_dict(Drawing(shape=Circle()))
    data["shape"]["raduis"] = 2
    with pytest.raises(UserError, match=r"config\.shape\.raduis.*did you mean 'radius'"):
        from_dict(Drawing, data)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mode": "dots"}, "'fill', 'line'"),
        ({"visible": 1}, "expected bool"),
        ({"limit": "x"}, "expected int"),
        ({"limit": True}, "expected int"),
        ({"names": "ab"}, "expected a list"),
        ({"shape": {"kind": "blob"}}, "unknown"),
        ({"inner": {"kind": "box"}}, "expected 'circle'"),
        ({"inner": {"radius": float("inf")}}, "inner.radius: must be a finite number"),
        ({"inner": {"radius": float("nan")}}, "finite"),
        ({"inner": {"radius": 10**400}}, "finite"),
    ],
)
def test_wrong_values_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        from_dict(Drawing, to_dict(Drawing(shape=Circle())) | change)


def test_missing_field_is_named():
    with pytest.raises(UserError, match="missing field 'shape'"):
        from_dict(Drawing, {})


def test_override_parses_json_and_plain_text():
    changed = override(
        Drawing(shape=Circle()), ["shape.radius=2", "mode=line", 'names=["x"]', "limit=null"]
    )
    assert changed == Drawing(shape=Circle(radius=2.0), mode="line", names=("x",))


def test_another_kind_keeps_what_both_have():
    changed = override(
        Drawing(shape=Circle(radius=3.0, colour="blue")), ["shape.kind=box", "shape.sides=[5]"]
    )
    assert changed == Drawing(shape=Box(sides=(5,), colour="blue"))


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("shape.kind=bix", "did you mean 'box'"),
        ("inner.kind=box", "known: circle"),
        ("shape.radios=2", "did you mean 'radius'"),
        ("mode", "expected NAME=VALUE"),
        ("mode.x=1", "below a plain value"),
    ],
)
def test_override_errors(assignment, message):
    with pytest.raises(UserError, match=message):
        override(Drawing(shape=Circle()), [assignment])
