"""Every CI runs the same two commands, with the versions of requirements.txt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import chromium
from explorer import web_runtime
from tests import left_out

ROOT = Path(__file__).parents[2]


def test_every_ci_runs_make_lint_and_make_test():
    def commands(name):
        text = (ROOT / name).read_text(encoding="utf-8")
        return re.findall(r"\bmake (lint|test)$", text, re.MULTILINE)

    assert commands(".ci/run") == ["lint", "test"]
    assert [*dict.fromkeys(commands(".github/workflows/ci.yml"))] == ["lint", "test"]
    assert {*commands(".pre-commit-config.yaml")} == {"lint"}


def test_both_set_up_what_the_tests_of_exports_need():
    for name in (".ci/run", ".github/workflows/ci.yml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.search(r"^\W*(?:run: )?make setup-exports\b.*(?:.|\n)*\bmake test$", text, re.M)


def test_the_audit_fails_where_a_package_cannot_be_audited():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    (command,) = re.findall(r"run: pip-audit .*", workflow)
    assert {"--strict", "constraints.txt"} <= {*command.split()}


@pytest.mark.parametrize(
    "absent", ["nothing", "chromium", "chromedriver", "browser", "onnxruntime", "archive"]
)
def test_make_test_says_what_is_left_out_and_what_to_install(absent, tmp_path, monkeypatch):
    archive = tmp_path / "archive.tgz"
    if absent != "archive":
        archive.touch()
    monkeypatch.setattr(left_out, "cached_archive", lambda: archive)
    absents = {
        "chromium": chromium.NAMES,
        "browser": (*chromium.NAMES, "chromedriver"),
    }.get(absent, (absent,))
    found = lambda name: None if name in absents else name  # noqa: E731
    monkeypatch.setattr(left_out.importlib.util, "find_spec", found)
    monkeypatch.setattr(chromium.shutil, "which", found)
    lines = [*left_out.left_out()]
    wanted = {
        "nothing": [],
        "chromium": ["; chromium is not installed"],
        "chromedriver": ["; chromium-driver is not installed"],
        "browser": ["; chromium and chromium-driver are not installed"],
        "onnxruntime": ["`make setup-exports` installs onnxruntime"],
        "archive": [f"`make setup-exports` installs {web_runtime.PACKAGE}"],
    }[absent]
    assert len(lines) == len(wanted)
    assert all(line.endswith(end) for line, end in zip(lines, wanted, strict=True))
    assert "\t@$(PY) -m tests.left_out\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_workflow_covers_every_python_that_is_allowed():
    conda = (ROOT / "environment.yml").read_text(encoding="utf-8")
    first, end = map(int, re.search(r"python>=3\.(\d+),<3\.(\d+)", conda).groups())
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert f"python: {[f'3.{minor}' for minor in range(first, end)]}".replace("'", '"') in workflow
