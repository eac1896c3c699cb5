"""The pages: every link leads somewhere, and the site has every page."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.md"),
                *ROOT.glob("benchmarks/**/*.md")])


def name_of(path):
    return path.relative_to(ROOT).as_posix()


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
    made = {"index.md", "commands.md", "contributing.md", "changelog.md", "security.md"}
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
