"""The random values of `benchmarks.fuzz`: texts, numbers, and valid files of which parts change.

All of them are JSON values; bytes are written as text in Latin-1.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import string
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from benchmarks import fuzz_imports

TEXTS = (
    "", " ", "\0", "\x1b[2J", "\u202e", "\ud800", "../../etc/passwd", "a\nb", "-0", "NaN", "1e999",
    "-1e-320", "0x10", "1_0", "\u0663", "9" * 5000, "[" * 5000, "x" * 30_000, "{}", "%s%n", "|",
    "'",
    "1,2,3,4", "0,0,1,1", "1e300,0,2e300,1", "64x64", "99999999x9", "swirl", "fisheye", "wave",
)  # fmt: skip
NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 1e308, -1e308, 5e-324, float("nan"))
texts = st.one_of(
    st.sampled_from(TEXTS),
    st.text(max_size=20),
    st.text("0123456789.,-+xeEnaif: \t", max_size=20),
    st.text(string.printable, max_size=12),
)
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-20, 300), st.floats())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed(draw: Callable[..., Any], value: Any, most: int = 3) -> Any:
    """A JSON value of which up to `most` parts are replaced, left out or added."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, most))):
        node = value
        while True:
            keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys or draw(st.integers(0, 7)) == 0:
                if isinstance(node, dict):
                    node[draw(texts)] = draw(values)
                break
            key = draw(st.sampled_from(keys))
            if isinstance(node[key], (dict, list)) and draw(st.booleans()):
                node = node[key]
                continue
            if draw(st.integers(0, 4)) == 0:
                del node[key]
            else:
                node[key] = draw(values)
            break
    return value


@st.composite
def damaged(draw: Callable[..., Any], data: bytes) -> str:
    """Bytes, in Latin-1, of which up to three places are replaced, cut out or doubled."""
    data = bytearray(data)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from((0, 1, 1, 2, 8, 64)))
        data[start:end] = draw(
            st.one_of(st.binary(max_size=9), st.just(bytes(data[start:end]) * 2))
        )
    return data.decode("latin-1")


@functools.cache
def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


INDEX = {
    "format": 1, "source": "x", "resolution": [8, 8], "labels": [["a.png", 0]],
    "items": [{"file": "a.png", "id": "a", "captions": ["red"], "split": "train", "size": [8, 8]}],
}  # fmt: skip


TABLES = {name: text.encode() for name, text in fuzz_imports.TABLES.items()}


NAMES_OF_TENSORS = ("tokens_mean", "x", "__metadata__")
TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
headers = st.dictionaries(
    st.sampled_from(NAMES_OF_TENSORS) | texts, changed(TENSOR) | values | st.just("-"), max_size=2
)


pairs = st.one_of(texts, st.tuples(numbers, numbers).map(lambda pair: f"{pair[0]},{pair[1]}"))
boxes = st.tuples(numbers, numbers, numbers, numbers).map(lambda box: ",".join(map(str, box)))
floats = st.one_of(
    st.floats(-3, 3), st.floats(), st.sampled_from([0.0, 1.0, 1e308, 1e-308, 5e-324, 90.0])
)
views = st.fixed_dictionaries(
    {},
    optional={
        "window": texts | boxes, "zoom": floats, "center": pairs, "rotate": floats,
        "translate": pairs, "shear": floats, "exact": st.booleans(),
        "warp": st.sampled_from(["swirl", "fisheye", "wave"]) | texts,
    },
)  # fmt: skip


def npy(shape: tuple[int, ...] = (2, 3, 2), kind: str = "f4") -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(shape, kind))
    return buffer.getvalue()


headers_of_arrays = st.builds(
    lambda text: b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + bytes(48),
    st.one_of(
        st.builds(
            lambda kind, order, shape: repr(
                {"descr": kind, "fortran_order": order, "shape": shape}
            ).encode("utf-8", "replace")[:60_000],
            st.sampled_from(["<f4", "|O", "<f8", "<f2", "<c8", ">f4", "|V3", ""]) | values,
            values,
            st.lists(numbers, max_size=4).map(tuple) | values,
        ),
        st.sampled_from([b"(" * 5000, b"-" * 9000 + b"1", b"[]" * 4000, b"{}", b""]),
    ),
).map(lambda data: data.decode("latin-1"))


STATE = {
    "network": "network-snapshot-000001", "prompt": "a red apple", "seed": 3, "truncation": 0.7,
    "text_noise": 0.25, "rotate": 30.0, "warp": "swirl",
    "blend": {"prompt": "a leaf", "seed": 5, "weight": 0.35},
}  # fmt: skip


segments = st.sampled_from(["PICTURE", "0", "-3", "14", "999999999"]) | texts
paths = st.one_of(
    st.tuples(segments, segments, segments, segments).map(
        lambda t: f"/tile/{t[0]}/{t[1]}/{t[2]}/{t[3]}.png"
    ),
    st.tuples(st.sampled_from(["preview", "command", "page", "runs"]), segments).map(
        lambda pair: f"/{pair[0]}/{pair[1]}" + (".png" if pair[0] == "preview" else "")
    ),
    st.sampled_from(["/runs/curves", "/runs/grid.png", "/options"]),
)
queries = st.fixed_dictionaries(
    {},
    optional={
        "window": texts | boxes, "size": texts | st.just("2x2"), "run": st.just(".") | texts,
        "name": texts, "token": texts,
    },
)  # fmt: skip
records = st.lists(changed({"kimg": 1.0, "Loss/G": 2.0, "eta_s": 3.0}), max_size=3).map(
    lambda lines: "\n".join(map(json.dumps, lines))
)
bodies = changed(STATE).map(lambda value: {"value": value}) | texts.map(lambda raw: {"raw": raw})
requests = st.one_of(
    st.tuples(st.just(""), st.just({}), bodies, st.none()),
    st.tuples(paths, queries, st.none(), st.none() | records),
).map(list)


OPTIONS = {
    "generate": [
        "--seeds", "--size", "--window", "--zoom", "--center", "--rotate", "--translate", "--shear",
        "--warp", "--trunc", "--prompts", "--mix", "--mix-codes", "--text-noise", "--prompts-file",
    ],
    "train": ["--recipe", "--set", "--batch", "--kimg", "--seed", "--precision", "--workers"],
    "dataset_tool": ["folder", "verify", "coco", "cub", "--source", "--resolution", "--dest"],
}  # fmt: skip
assignments = st.tuples(
    st.sampled_from(["generator.channels", "batch", "loss.r1_gamma", "generator.kind", "x"]), texts
).map("=".join)
commands = st.sampled_from(sorted(OPTIONS)).flatmap(
    lambda name: st.lists(
        st.tuples(st.sampled_from(OPTIONS[name]), texts | assignments), max_size=3
    ).map(lambda given: [name, *(word for pair in given for word in pair)])
)


raw_texts = texts.map(lambda t: t.encode("utf-8", "replace").decode("latin-1"))
