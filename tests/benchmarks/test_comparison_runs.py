"""benchmarks/comparison_runs.py: trainings at the same time, none twice, none after a failure."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from benchmarks import comparison_runs
from tests.commands.forked import run_command


def forked(command, **options):
    """`subprocess.run` of a training in a forked process, without the seconds of the imports."""
    done = run_command(*command[1:], OMP_NUM_THREADS=options["env"]["OMP_NUM_THREADS"])
    done.stdout += done.stderr
    return done


@pytest.mark.slow
def test_trainings_are_started_side_by_side_once_and_stop_at_a_failure(
    openmoji32, tmp_path, monkeypatch
):
    """The two trainings at the same time are real processes, the later ones are forked."""

    def train_all(seeds, jobs, *arguments):
        return CliRunner().invoke(
            comparison_runs.main,
            [
                "--data",
                str(openmoji32),
                "--outdir",
                str(tmp_path),
                *"--kimg 0.008 --recipes debug".split(),
                "--seeds",
                seeds,
                "--jobs",
                jobs,
                *"-- --device cpu --report-to none".split(),
                *arguments,
            ],
        )

    assert train_all("0,1", "2").exit_code == 0
    logs = [tmp_path / f"debug-seed{seed}" / "stats.jsonl" for seed in (0, 1)]
    before = [log.read_text() for log in logs]
    pipes = SimpleNamespace(run=forked, PIPE=subprocess.PIPE, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(comparison_runs, "subprocess", pipes)
    assert (
        train_all("0", "1").exit_code == 0
        and [log.read_text() for log in logs] == before
        and before[0] != before[1]
    )
    failed = train_all("0,2", "1", "--batch", "0")
    assert not (tmp_path / "debug-seed2").exists()  # no run is started after a failure
    assert (
        failed.exit_code == 1
        and "debug-seed0: " in failed.stderr
        and "--batch" in failed.stderr
        and "Traceback" not in failed.stderr
    )
