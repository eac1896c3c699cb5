"""Conversion between frozen dataclasses and JSON, with strict checks.

An unknown key is an error that names the nearest known key. A field may be a union of dataclasses.
Each member of the union then has a class attribute `kind`, which is written into the JSON and
selects the class when the JSON is read. `override` applies `--set a.b=value` through the same
checks.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
import types
import typing
from typing import Any, TypeVar

from dnnlib.errors import UserError

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def to_dict(config: Any) -> Any:
    """Copy a config dataclass into plain JSON values. Tuples become lists; `kind` comes first."""
    if dataclasses.is_dataclass(config):
        head = {"kind": config.kind} if hasattr(config, "kind") else {}
        return head | {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [to_dict(item) for item in config]
    if isinstance(config, dict):
        return {key: to_dict(value) for key, value in config.items()}
    return config


def leaves(options: Any, path: str = "") -> dict[str, Any]:
    """Flatten nested options into {dotted name: plain value}, e.g. {'loss.r1_gamma': 1.0, ...}."""
    if not isinstance(options, dict):
        return {path: options}
    return {
        name: leaf
        for key, value in options.items()
        for name, leaf in leaves(value, f"{path}.{key}" if path else key).items()
    }


def from_dict(cls: type[T], data: Any, path: str = "config") -> T:
    """Build `cls` from parsed JSON; `path` is the name of `data` in error messages.

    Raises `UserError` for unknown keys, missing fields and wrong types.
    """
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: expected an object with the fields of {cls.__name__}, got {data!r}"
        )
    data = dict(data)
    kind = data.pop("kind", None)
    if kind is not None and kind != getattr(cls, "kind", None):
        raise UserError(f"{path}.kind: expected {getattr(cls, 'kind', None)!r}, got {kind!r}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for key in data:
        if key not in names:
            raise UserError(f"{path}.{key}: no such field; {nearest(key, names)}")
    values = {key: _decode(hints[key], value, f"{path}.{key}") for key, value in data.items()}
    required = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        raise UserError(f"{path}: missing field {missing[0]!r}")
    return cls(**values)


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """Return "did you mean 'X'?" for the nearest known word, else 'known: X, Y, ...'."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def _decode(hint: Any, value: Any, path: str) -> Any:
    """Convert a JSON value to the type `hint`; `path` is the field's name in error messages."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(hint), value, path)
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise UserError(f"{path}: {value!r} is not one of {', '.join(map(repr, choices))}")
        return value
    if origin is tuple:
        return _decode_tuple(typing.get_args(hint), value, path)
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{path}: expected an object, got {value!r}")
        item = typing.get_args(hint)[1]
        return {str(key): _decode(item, entry, f"{path}.{key}") for key, entry in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, path)
    if hint is Any:
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not abs(value) <= sys.float_info.max:  # NaN fails this comparison too
            raise UserError(f"{path}: must be a finite number, got {value}")
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{path}: expected {hint.__name__}, got {value!r}")
    return value


def _decode_union(members: tuple, value: Any, path: str) -> Any:
    if value is None and type(None) in members:
        return None
    members = tuple(m for m in members if m is not type(None))
    if len(members) == 1:
        return _decode(members[0], value, path)
    # A union of dataclasses: `kind` selects the class.
    kinds = {m.kind: m for m in members if hasattr(m, "kind")}
    if kinds and isinstance(value, dict):
        kind = value.get("kind")
        if not isinstance(kind, str) or kind not in kinds:
            raise UserError(f"{path}.kind: {kind!r} is unknown; {nearest(str(kind), kinds)}")
        return from_dict(kinds[kind], value, path)
    # A union of plain types: the first type that accepts the value.
    for member in members:
        try:
            return _decode(member, value, path)
        except UserError:
            continue
    names = ", ".join(getattr(member, "__name__", str(member)) for member in members)
    raise UserError(f"{path}: {value!r} has none of the types {names}")


def _decode_tuple(items: tuple, value: Any, path: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{path}: expected a list, got {value!r}")
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise UserError(f"{path}: expected {len(items)} values, got {len(value)}")
    return tuple(
        _decode(h, v, f"{path}[{i}]") for i, (h, v) in enumerate(zip(items, value, strict=True))
    )


def override(config: T, assignments: typing.Iterable[str]) -> T:
    """Return a copy of a config with `a.b=value` assignments applied.

    A value is parsed as JSON; a value that is not JSON is taken as plain text. `a.kind=name`
    changes the class of a union; fields that both classes have keep their values. Raises
    `UserError` for an unknown field or kind and for a value of the wrong type.
    """
    data = to_dict(config)
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator or not path:
            raise UserError(
                f"--set {assignment}: expected NAME=VALUE, for example --set loss.r1_gamma=1.0"
            )
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        *parents, leaf = path.split(".")
        node, hint = data, type(config)
        for part in parents:
            owner, node = node, _field(node, part, path)
            hint = _field_hint(hint, owner, part)
        _field(node, leaf, path)
        if leaf == "kind" and parents:
            owner[parents[-1]] = _of_kind(hint, value, node, path)
        else:
            node[leaf] = value
    return from_dict(type(config), data)


def _classes(hint: Any) -> dict[str, type[DataclassInstance]]:
    """The dataclasses by their `kind` that a field of type `hint` can hold."""
    return {
        member.kind: member
        for member in typing.get_args(hint) or (hint,)
        if hasattr(member, "kind")
    }


def _field_hint(hint: Any, owner: dict, name: str) -> Any:
    """The type of field `name` of the options `owner`; `hint` is the type of `owner`."""
    cls = _classes(hint).get(str(owner.get("kind", "")), hint)
    return typing.get_type_hints(cls).get(name) if dataclasses.is_dataclass(cls) else None


def _of_kind(hint: Any, kind: Any, before: dict, path: str) -> dict:
    """The options of the class `kind`: values of `before` where it has the field, else defaults."""
    classes = _classes(hint)
    if not isinstance(kind, str) or kind not in classes:
        raise UserError(f"--set {path}: {kind!r} is unknown; {nearest(str(kind), classes)}")
    values = {"kind": kind}
    for f in dataclasses.fields(classes[kind]):
        if f.name in before:
            values[f.name] = before[f.name]
        elif f.default is not dataclasses.MISSING:
            values[f.name] = to_dict(f.default)
        elif f.default_factory is not dataclasses.MISSING:
            values[f.name] = to_dict(f.default_factory())
    return values


def _field(node: Any, name: str, path: str) -> Any:
    """The value of field `name` in the options `node`. Raises `UserError` if there is none."""
    if not isinstance(node, dict):
        raise UserError(f"--set {path}: {name!r} lies below a plain value")
    if name not in node:
        raise UserError(f"--set {path}: no field {name!r}; {nearest(name, node)}")
    return node[name]
