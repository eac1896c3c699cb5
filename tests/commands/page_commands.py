"""The commands of a page of the documentation, and their miniatures that tests run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def commands(page: str) -> list[list[str]]:
    """The words of every command in the bash blocks of a page in docs/, without `python`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").strip().splitlines()]
    return [shlex.split(line)[1:] for line in lines]


def miniature(words: list[str], folder: Path, small: Mapping[str, str]) -> list[str]:
    """A command with the words of `small` in place, and its paths below `folder`.

    small: {word of the page: word that the test runs in its place}. The paths of a page are those
    in photos, data, runs and out.
    """

    def replaced(word: str) -> str:
        if word in small:
            return small[word]
        return str(folder / word) if re.match(r"(photos|data|runs|out)(\W|$)", word) else word

    return [words[0], *map(replaced, words[1:])]
