"""Every CI runs the same two commands, with the versions of requirements.txt."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_ci_runs_make_lint_and_make_test():
    def commands(name):
        text = (ROOT / name).read_text(encoding="utf-8")
        return re.findall(r"\bmake (lint|test)$", text, re.MULTILINE)

    assert commands(".ci/run") == ["lint", "test"]
    assert [*dict.fromkeys(commands(".github/workflows/ci.yml"))] == ["lint", "test"]
    assert {*commands(".pre-commit-config.yaml")} == {"lint"}


def test_the_workflow_covers_every_python_that_is_allowed():
    conda = (ROOT / "environment.yml").read_text(encoding="utf-8")
    first, end = map(int, re.search(r"python>=3\.(\d+),<3\.(\d+)", conda).groups())
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert f"python: {[f'3.{minor}' for minor in range(first, end)]}".replace("'", '"') in workflow
