"""Versions: requirements.txt has bounds, constraints.txt the versions that CI passed with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def lines_of(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in (line.split("#")[0].strip() for line in text.splitlines()) if line]


def pinned(lines):
    """Version by package.

    Raises `ValueError` for a line that is not NAME==VERSION: a path, a range, a tag such as +cpu.
    """
    found = {}
    for line in lines:
        name, separator, version = line.partition("==")
        if not separator or not re.fullmatch(r"[0-9a-z.]+", version):
            raise ValueError(f"constraints.txt, {line}: expected NAME==VERSION")
        found[canonicalize_name(name)] = Version(version)
    return found


def unmet(requirements, versions):
    """The requirements that constraints.txt does not pin to a version within their bounds."""

    def met(wanted):
        version = versions.get(canonicalize_name(wanted.name))
        return version is not None and wanted.specifier.contains(version)

    return [str(wanted) for wanted in map(Requirement, requirements) if not met(wanted)]


def test_both_requirement_files_say_the_same():
    conda = (ROOT / "environment.yml").read_text(encoding="utf-8")
    lines = conda.split("- pip:")[1].splitlines()
    listed = {line.strip().removeprefix("- ").strip('"') for line in lines} - {""}
    assert listed == {*lines_of("requirements.txt")}


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-optional.txt", "docs/requirements.txt"]
)
def test_every_requirement_is_pinned_within_its_bounds(name):
    assert lines_of(name) and unmet(lines_of(name), pinned(lines_of("constraints.txt"))) == []


def test_the_comparison_sees_what_is_missing_and_what_is_too_new():
    versions = pinned(["torch==3.0.0", "open_clip_torch==3.3.0"])
    wanted = ["torch>=2.11,<3", "open-clip-torch>=3.3", "numpy"]
    assert unmet(wanted, versions) == ["torch<3,>=2.11", "numpy"]
