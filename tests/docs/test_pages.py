"""The pages: every link leads somewhere, and the site has every page."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob(".github/**/*.md"),
        *ROOT.glob("benchmarks/**/*.md"),
    ]
)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def hidden_blocks(text):
    """Lines where a list, a table or a fence begins right after a paragraph.

    GitHub shows such a block. The site, which follows the older rules, does not.
    """
    found, before, fenced = [], "", False
    for number, line in enumerate(text.splitlines(), start=1):
        after_text = before and not before.startswith(("#", "<!--"))
        if line.startswith("```") and not fenced and after_text:
            found.append(number)
        elif not fenced and after_text and not before.startswith(("- ", " ")):
            is_item = re.match(r"(?:[-*]|\d+\.) ", line) and not re.match(r"\d+\. ", before)
            is_table = line.startswith("|") and not before.startswith("|")
            if is_item or is_table:
                found.append(number)
        fenced ^= line.startswith("```")
        before = line
    return found


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_site_sees_every_list_and_table(path):
    assert not hidden_blocks(path.read_text(encoding="utf-8"))


def test_the_check_of_blocks_sees_them():
    text = "words\n- item\n  more\n- item\n\n| a |\n|---|\nwords\n| b |\n```\nwords\n- x\n```\n"
    assert hidden_blocks(text) == [2, 9, 10]


def anchors(path):
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip()) for heading in plain}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{name_of(path)}: {link} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{name_of(path)}: {link} has no such heading"


def test_the_site_has_every_page():
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": (\S+\.md)$", site, re.MULTILINE))
    here = {path.name for path in ROOT.glob("docs/*.md")}
    here |= {f"notebooks/{path.stem}.md" for path in ROOT.glob("docs/notebooks/*.ipynb")}
    made = {"index.md", "commands.md", "contributing.md", "changelog.md"}
    assert listed == here | made


def test_the_names_of_the_api_page_exist():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    assert len(names) > 20
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name
    for members in re.findall(r"::: (\S+)\n    options:\n      members: \[(.*)\]", page):
        module, _, cls = members[0].rpartition(".")
        for member in members[1].split(", "):
            assert hasattr(getattr(importlib.import_module(module), cls), member), member
