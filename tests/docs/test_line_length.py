"""Prose in Markdown has at most 100 characters a line, so that changes can be read side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Records of benchmarks are left out: scripts write them, and they stay as they were written.
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.md")])
MAX_LENGTH = 100


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def blank(match):
    """As many empty lines as the match has."""
    return "\n" * match[0].count("\n")


def prose(text):
    """(number, line) of the lines outside of code fences, indented code, tables and comments."""
    fenced = False
    text = re.sub(r"^<!--.*?-->$", blank, text, flags=re.DOTALL | re.MULTILINE)
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not re.match(r"\s*\||    \S", line):
            yield number, line


def too_long(text):
    """Lines of prose over the limit that could be broken.

    A line is allowed to be longer where a link, a path or a piece of code without a space to break
    at is alone on it.
    """
    return [
        number
        for number, line in prose(text)
        if len(line) > MAX_LENGTH
        and len(line.strip().removeprefix("- ").split()) > 1
        and not re.fullmatch(r"\s*(?:[-*] )?!?\[[^]]*\]\(\S+\)\S*", line)
    ]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_lines_of_prose_are_short(path):
    lines = too_long(path.read_text(encoding="utf-8"))
    assert not lines, f"{name_of(path)}: lines {lines} are longer than {MAX_LENGTH}"


def test_the_check_of_lines_sees_prose_and_nothing_else():
    word = "word " * 30
    link = f"- [x](docs/{'x' * 120}.md)"
    text = f"{word}\n| {word}|\n```\n{word}\n```\n    {word}\n{link}\n- {word}\n"
    assert too_long(text) == [1, 8]
    assert too_long(f"<!-- {word}\n{word}\n-->\n{word}\n<!-- {word} -->\n{word}\n") == [4, 6]
