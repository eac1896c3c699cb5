"""The number of processes of a run; equal results, signals and errors with several processes."""

import contextlib
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import training.start
from configs import RECIPES
from dnnlib.errors import UserError
from tests.commands.forked import start_command
from training.checkpoint import checkpoints
from training.start import chosen_processes, start


def debug(data, **fields):
    return replace(RECIPES["debug"](), data=str(data), report_to=(), snapshot_ticks=100, **fields)


@pytest.mark.parametrize(
    ("batch", "cores", "count"),
    [(8, 2, 2), (8, 1, 1), (8, 64, 2), (4, 2, 1), (32, 6, 4), (9, 2, 1)],
)
def test_a_process_a_core_where_the_batch_divides(monkeypatch, batch, cores, count):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(training.start, "num_cores", lambda: cores)
    config = replace(debug("unused"), device="cpu", batch=batch)
    assert chosen_processes(config) == count
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert chosen_processes(config) == 1


def test_no_group_of_the_discriminator_is_cut(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(training.start, "num_cores", lambda: 8)
    flowers = replace(RECIPES["eidgan-flowers64"](), device="cpu", batch=16)
    assert flowers.discriminator.group_size == 8
    assert chosen_processes(flowers) == 2


def test_more_ranks_than_gpus_are_refused_before_any_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(training.start, "resolve_device", lambda name: torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="--ranks 2: there are 1 CUDA devices"):
        start(debug("unused"), tmp_path / "run", processes=2)


def test_a_number_of_ranks_that_does_not_fit_is_refused(monkeypatch, tmp_path):
    config = replace(debug("unused"), device="cpu")
    with pytest.raises(UserError, match="of the 3 processes; start 2, or another number"):
        start(config, tmp_path / "run", processes=3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun has started the processes"):
        start(config, tmp_path / "run", processes=2)


@pytest.mark.multi_process
@pytest.mark.slow
def test_a_run_resumed_with_any_number_of_processes_is_the_same_run(openmoji32, tmp_path):
    """One process, then two, then one with two rounds: every sum has two addends."""
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    start(debug(openmoji32, kimg=0.032, batch_gpu=4), unbroken, processes=1)
    for kimg, processes in ((0.008, 1), (0.016, 2), (0.032, 1)):
        start(debug(openmoji32, kimg=kimg, batch_gpu=4), broken, processes=processes)
    a, b = (torch.load(checkpoints(run)[0], weights_only=True) for run in (unbroken, broken))
    for part in ("generator", "discriminator", "ema"):
        for name, value in a[part].items():
            assert torch.equal(value, b[part][name]), name


@pytest.mark.multi_process
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are listed in /proc")
def test_sigusr1_stops_all_processes_and_is_reported_once(openmoji32, tmp_path):
    places = ("--outdir", tmp_path / "run", "--data", openmoji32)
    flags = "--recipe debug --report-to none --kimg 100 --tick 0.008 --ranks 2".split()
    command = start_command("train.py", *places, *flags)
    log, deadline = tmp_path / "run" / "stats.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and (not log.exists() or not log.read_text()):
        time.sleep(0.05)
    session = command.process.pid
    command.send_signal(signal.SIGUSR1)
    done = command.wait(timeout=60)
    output = done.stdout + done.stderr
    assert done.returncode == 3, output
    assert output.count("the state is saved first") == output.count("run the same command") == 1
    assert "cpu x 2; batch 8 = 2 x 1 x 4" in output and "Traceback" not in output
    deadline = time.monotonic() + 30  # the process that tracks shared memory ends last
    while (alive := _of_session(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive


def _of_session(session):
    """The numbers of the running processes of a session."""
    numbers = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process may have just ended
            state, _, _, process_session = path.read_text().rpartition(")")[2].split()[:4]
            if state != "Z" and int(process_session) == session:
                numbers.append(path.parent.name)
    return numbers
