"""One version: dnnlib/version.py says it, and everything else agrees."""

from __future__ import annotations

import importlib
import re
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from dnnlib.version import VERSION

ROOT = Path(__file__).parents[2]
COMMANDS = runpy.run_path(str(ROOT / "docs/help/write.py"))["MODULES"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_the_version(command):
    done = CliRunner().invoke(importlib.import_module(command).main, ["--version"])
    assert (done.exit_code, done.output) == (0, f"EIDGAN, version {VERSION}\n")


def test_the_list_of_commands_is_complete():
    commands = {
        path.stem for path in ROOT.glob("*.py") if "@click." in path.read_text(encoding="utf-8")
    }
    assert commands == {name for name in COMMANDS if "." not in name}


def test_the_citation_and_the_changelog_agree_with_it():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"^## \[([0-9.]+)\] - (\S+)$", changelog, re.MULTILINE).groups()
    assert version == VERSION
    assert re.findall(r"^version: (\S+)$", citation, re.MULTILINE) == [VERSION]
    assert re.findall(r"^date-released: (\S+)$", citation, re.MULTILINE) == [date]


def test_the_version_is_written_nowhere_else():
    named = [
        path.relative_to(ROOT).as_posix()
        for path in [*ROOT.glob("*"), *ROOT.glob("dnnlib/*")]
        if path.suffix in (".py", ".toml", ".cff", ".md", ".yml")
        and re.search(
            rf"(?<![\d.=]){re.escape(VERSION)}(?![\d.])", path.read_text(encoding="utf-8")
        )
    ]
    assert sorted(named) == ["CHANGELOG.md", "CITATION.cff", "dnnlib/version.py"]
