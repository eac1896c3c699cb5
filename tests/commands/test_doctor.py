"""doctor.py: its report on machines that lack compilers, tools or GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import doctor
from torch_utils.ops import build

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EIDGAN_CACHE", str(tmp_path))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(doctor.main, arguments)


def test_everything_a_report_needs_is_there(cache):
    done = run()
    assert done.exit_code == 0, done.output
    for part in (
        torch.__version__,
        sys.executable,
        "nvcc",
        "ninja",
        "GiB free",
        str(cache),
        "not built yet",
        f"EIDGAN_CACHE={cache}",
    ):
        assert part in done.output
    assert not list(cache.iterdir())


def test_it_tells_what_was_built_and_what_failed(cache):
    library = build.source_folder("biline") / "nvcc13.0-sm_90" / "biline.so"
    log = build.source_folder("modulated_linear") / "nvcc13.0-sm_90" / "failure.log"
    for path in (library, log):
        path.parent.mkdir(parents=True)
        path.touch()
    output = run().output
    assert "nvcc13.0-sm_90" in output and f"last build failed: {log}" in output


def test_a_build_that_fails_is_told_and_counts(cache, monkeypatch):
    def fail(name):
        raise build.BuildError("no CUDA compiler: nvcc was not found")

    monkeypatch.setattr(build, "load", fail)
    done = run("--build")
    assert done.exit_code == 1 and "FAILED" in done.output and "nvcc was not found" in done.output
    assert "GiB free" in done.output  # the report continues


def program(path, content):
    """A file that may be executed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("broken", ["a letter", "\x7fELF of another machine"])
def test_compilers_that_do_not_start_are_told(cache, monkeypatch, broken):
    compiler = program(cache / "c++", broken)
    home = program(cache / "cuda/bin/nvcc", broken).parents[1]
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("CUDA_HOME", str(home))
    done = run()
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.output
    assert f"FAILED: {compiler}: Exec format error" in done.output
    assert f"{home / 'bin/nvcc'} does not start (Exec format error); reinstall" in done.output
    assert "GiB free" in done.output  # the report continues


def test_a_compiler_that_prints_an_empty_line_is_named(cache, monkeypatch):
    compiler = program(cache / "c++", "#!/bin/sh\necho\n")
    monkeypatch.setenv("CXX", str(compiler))
    done = run()
    assert done.exit_code == 0 and f"({compiler})" in done.output, done.output


def test_a_folder_that_cannot_be_looked_into_is_told(monkeypatch):
    """Root may look into every folder, but not into one of such a name."""
    monkeypatch.setenv("EIDGAN_CACHE", f"/tmp/{'x' * 300}")
    done = run()
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    folders = done.output.split("folders\n")[1]
    assert "File name too long" in folders and "repository" in folders and "GiB free" in folders


@pytest.mark.slow
def test_without_any_tool_it_still_speaks(tmp_path):
    """The report is complete without a compiler, ninja and git on PATH."""
    quiet = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CUDA_HOME", "CUDA_PATH", "CXX")
    }
    done = subprocess.run(
        [sys.executable, ROOT / "doctor.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=quiet | {"PATH": str(tmp_path), "EIDGAN_CACHE": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "c++: not found" in done.stdout and "git: not found" in done.stdout and not done.stderr
