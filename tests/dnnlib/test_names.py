"""File names are printable, comparable across systems, and hidden ones are recognised."""

from __future__ import annotations

import os
import unicodedata

import pytest

from dnnlib.console import one_line
from dnnlib.names import is_hidden, is_junk, listing, numbered, printable, same_name_key


@pytest.mark.parametrize(
    "name, shown",
    [
        ("plain.png", "plain.png"),
        ("caf\u00e9.png", "caf\u00e9.png"),
        (os.fsdecode(b"caf\xe9.png"), "caf\u00e9.png"),
        ("\ud83d.png", r"\ud83d.png"),
        ("two\nlines", r"two\nlines"),
        ("\u043f\u0440\u0438", "\u043f\u0440\u0438"),
        (
            os.fsdecode("\u043f\u0440\u0438\u0432\u0435\u0442".encode("cp1251")),
            r"\udcef\udcf0\udce8\udce2\udce5\udcf2",
        ),
    ],
)
def test_names_of_any_bytes_can_be_shown(name, shown):
    assert printable(name) == shown
    shown.encode()


def test_one_file_has_one_name_on_all_systems():
    composed, decomposed = (
        unicodedata.normalize(form, "a/caf\u00e9.png") for form in ("NFC", "NFD")
    )
    assert composed != decomposed and same_name_key(composed) == same_name_key(decomposed)
    assert same_name_key("a\\b.png") == same_name_key("./a//b.png") == "a/b.png"
    assert same_name_key(os.fsdecode(b"caf\xe9.png")) == same_name_key("cafe\u0301.png")
    assert same_name_key("A.png") != same_name_key("a.png")


@pytest.mark.parametrize(
    "path, hidden",
    [
        ("a.png", False),
        ("./a.png", False),
        ("a/b.png", False),
        ("..", False),
        ("._a.png", True),
        ("a/.DS_Store", True),
        (".ipynb_checkpoints/a-checkpoint.png", True),
        ("__MACOSX/a.png", True),
        ("a/Thumbs.db", True),
        ("a/@eaDir/b.jpg", True),
        ("a.b/c.png", False),
        ("a/.git/x.png", True),
    ],
)
def test_hidden_files(path, hidden):
    assert is_hidden(path) == hidden


def test_junk_is_a_by_product_of_file_browsers():
    assert is_junk(".DS_Store") and is_junk("._x")
    assert not is_junk(".git") and not is_junk(".ipynb_checkpoints")


def test_numbered_names_are_in_the_order_of_their_numbers(tmp_path):
    for name in (
        "a-1000000.x",
        "a-999999.x",
        "a-000003.x",
        "a-000003.y",
        "a-3.x",
        "a-0000003.x",
        "a-best.x",
    ):
        (tmp_path / name).touch()
    paths = numbered(tmp_path, "a-", ".x")
    assert [path.name for path in paths.values()] == ["a-000003.x", "a-999999.x", "a-1000000.x"]
    assert list(paths) == [3, 999999, 1000000]
    assert numbered(tmp_path / "missing", "a-") == {}


def test_lines_and_lists():
    assert one_line("two\r\n lines\x00 of it") == "two lines of it"
    assert listing("abcde") == "a, b, c and 2 more" and listing(["a\nb"]) == r"a\nb"
