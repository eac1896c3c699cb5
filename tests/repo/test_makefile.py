"""`make setup` without an environment, with a broken one and with an old Python; no download."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def setup(folder, python=sys.executable):
    outer = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }  # of `make test`
    return subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=folder, capture_output=True, text=True, env=outer
    )


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text("")
    return tmp_path


@pytest.mark.slow
def test_a_half_made_environment_is_made_anew(project):
    half = project / ".venv" / "bin" / "python"
    half.parent.mkdir(parents=True)
    half.write_text("#!/bin/sh\nexit 1\n")
    half.chmod(0o755)
    (project / ".venv" / ".requirements").write_text("")  # newer than requirements.txt
    done = setup(project)
    assert done.returncode == 0, done.stderr
    assert list(project.glob(".venv/lib/python*/site-packages/pip"))
    assert setup(project).stdout.strip() == "make: Nothing to be done for 'setup'."


def test_an_old_python_is_named(project):
    old = project / "python3.10"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; '
        'sys.version_info = (3, 10, 2); exec(sys.argv[2])" "$@"\n'
    )
    old.chmod(0o755)
    done = setup(project, old)
    assert (
        done.returncode
        and "Error: Python 3.11 or newer is needed" in done.stderr
        and "is 3.10;" in done.stderr
    )
    assert "Traceback" not in done.stderr and not (project / ".venv").exists()


def test_gpu_check_takes_the_named_interpreter_and_installs_nothing(project):
    python = project / "python3"
    python.write_text('#!/bin/sh\necho "$@" >> asked\n')
    python.chmod(0o755)
    outer = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        ["make", "gpu-check"],
        cwd=project,
        capture_output=True,
        text=True,
        env=outer | {"PYTHON": str(python)},
    )
    assert done.returncode == 0, done.stderr
    assert (project / "asked").read_text() == "-m benchmarks.gpu_check\n" and not (
        project / ".venv"
    ).exists()
