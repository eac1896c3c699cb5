"""Runs of train.py in processes: ranks, a killed run, signals, and metrics."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs import recipe
from tests.commands.forked import run_command, start_command, start_ranks
from tests.training.steps import make_trainer

ROOT = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def train_command(outdir, archive, *flags):
    """The arguments of a run of the debug recipe."""
    options = {"--outdir": outdir, "--recipe": "debug", "--data": archive, "--report-to": "none"}
    pairs = [text for flag, value in options.items() for text in (flag, str(value))]
    return ["train.py", *pairs, *flags]


def train(outdir, archive, *flags, launcher=(), check=True):
    """Run train.py to its end in a forked process, or in real processes by `launcher`."""
    command = train_command(outdir, archive, *flags)
    if launcher:
        done = subprocess.run(
            [sys.executable, *launcher, *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    else:
        done = run_command(*command)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def wait_for_ticks(outdir, count):
    """Wait until the log of a run has `count` ticks, at most two minutes."""
    log = outdir / "stats.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) >= count:
            return
        time.sleep(0.02)


def read_stats(outdir):
    return [json.loads(line) for line in (outdir / "stats.jsonl").read_text().splitlines()]


def state_of(outdir):
    newest = sorted(outdir.glob("training-state-*.pt"))[-1]
    return torch.load(newest, weights_only=True)


@pytest.mark.multi_process
@pytest.mark.slow
def test_two_processes_equal_one_process_with_two_accumulations(openmoji32, tmp_path):
    """Every sum has two addends, so the order of the addition cannot change it."""
    train(tmp_path / "ranks", openmoji32, "--kimg", "0.024", launcher=TORCHRUN)
    train(tmp_path / "rounds", openmoji32, "--kimg", "0.024", "--batch-gpu", "4")
    a, b = state_of(tmp_path / "ranks"), state_of(tmp_path / "rounds")
    for part in ("generator", "discriminator", "ema"):
        for name, value in a[part].items():
            assert torch.equal(value, b[part][name]), name
    assert [r["images"] for r in read_stats(tmp_path / "ranks")] == [
        r["images"] for r in read_stats(tmp_path / "rounds")
    ]


@pytest.mark.multi_process
@pytest.mark.slow
def test_the_number_of_ranks_may_change_when_a_run_is_resumed(openmoji32, tmp_path):
    """2 ranks, then 3, then 1 show the same pictures and end with the weights of one rank.

    Every forward pass has two images, so only the order of the sums of gradients changes. Adam
    divides a gradient by its size, which makes whole steps of gradients that are rounding errors;
    the large eps prevents that. With seed 0, a value so near to 0 occurs that a rounding error
    changes the slope of its leaky ReLU; the relative difference is 4e-4 then.
    """
    flags = ["--seed", "1", "--batch", "12", "--batch-gpu", "2", "--tick", "0.012", "--snap", "9"]
    flags += ["--set", "optimizer_g.eps=0.01", "--set", "optimizer_d.eps=0.01"]
    train(tmp_path / "one", openmoji32, *flags, "--kimg", "0.036")
    for count, kimg in ((2, "0.012"), (3, "0.024")):
        command = train_command(tmp_path / "many", openmoji32, *flags, "--kimg", kimg)
        done = [rank.wait() for rank in start_ranks(*command, count=count)]
        assert [result.returncode for result in done] == [0] * count, done[0].stderr
        assert f"batch 12 = {count} x {6 // count} x 2" in done[0].stdout
    train(tmp_path / "many", openmoji32, *flags, "--kimg", "0.036")

    one, many = state_of(tmp_path / "one"), state_of(tmp_path / "many")
    assert one["progress"]["images"] == many["progress"]["images"] == 36
    trainer = make_trainer(replace(recipe("debug"), seed=1))
    for part, network in (
        ("generator", trainer.generator),
        ("discriminator", trainer.discriminator),
    ):
        start, end, other = (
            torch.cat([state[name].flatten() for name, _ in network.named_parameters()])
            for state in (network.state_dict(), one[part], many[part])
        )
        assert (other - end).norm() < 1e-4 * (end - start).norm()  # measured: 2e-5
    for left, right in zip(
        read_stats(tmp_path / "one"), read_stats(tmp_path / "many"), strict=True
    ):
        assert left["images"] == right["images"]
        for name in left:
            if name.startswith(("Loss/", "Logits/")):
                assert right[name] == pytest.approx(left[name], rel=1e-4), name


@pytest.mark.slow
def test_kill_and_rerun_leaves_no_gap_and_no_repeat(openmoji32, tmp_path):
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    flags = ("--kimg", "0.16", "--tick", "0.008", "--snap", "3")
    train(unbroken, openmoji32, *flags)
    command = start_command(*train_command(killed, openmoji32, *flags))
    wait_for_ticks(killed, 5)
    command.send_signal(signal.SIGKILL)
    assert command.wait().returncode == -signal.SIGKILL
    assert len(read_stats(killed)) < 20
    done = train(killed, openmoji32, *flags)
    assert "Resumed from training-state-" in done.stdout
    a, b = read_stats(unbroken), read_stats(killed)
    assert [r["images"] for r in a] == [r["images"] for r in b] == list(range(8, 161, 8))
    assert [r["tick"] for r in a] == [r["tick"] for r in b] == list(range(1, 21))
    logged = re.findall(r"^tick (\d+) ", (killed / "log.txt").read_text(), re.MULTILINE)
    assert logged == [str(tick) for tick in range(1, 21)]
    for left, right in zip(a, b, strict=True):
        assert all(
            left[name] == right[name]
            for name in left
            if name.startswith(("Loss/", "Gradient/", "Logits/"))
        )
    a, b = state_of(unbroken), state_of(killed)
    for part in ("generator", "discriminator", "ema"):
        assert all(torch.equal(value, b[part][name]) for name, value in a[part].items())


@pytest.mark.slow
def test_sigterm_saves_and_a_changed_flag_is_refused(openmoji32, tmp_path):
    outdir = tmp_path / "run"
    flags = ("--kimg", "100", "--tick", "0.008", "--workers", "1")
    command = start_command(*train_command(outdir, openmoji32, *flags))
    wait_for_ticks(outdir, 2)
    second = train(outdir, openmoji32, "--kimg", "0.008", check=False)
    assert second.returncode == 1 and "Traceback" not in second.stderr
    assert "in use by another process" in second.stderr
    # The signal also reaches the worker of the loader, as it does from torchrun and schedulers.
    command.send_signal(signal.SIGTERM)
    done = command.wait(timeout=60)
    assert done.returncode == 3 and "run the same command again" in done.stdout + done.stderr
    assert state_of(outdir)["progress"]["images"] == read_stats(outdir)[-1]["images"]
    refused = train(outdir, openmoji32, "--kimg", "100", "--gamma", "7", check=False)
    assert refused.returncode == 1 and "Error: " in (outdir / "log.txt").read_text()
    assert refused.stderr.strip().startswith("Error:")
    assert "another loss.r1_gamma (1.0, now 7.0)" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_run_with_metrics_equals_one_without_bit_for_bit(openmoji32, tmp_path):
    plain, scored = tmp_path / "plain", tmp_path / "scored"
    train(plain, openmoji32, "--kimg", "0.032", "--metrics", "none")
    metrics = ("--metrics", "kid_lite2,scale_x2", "--set", "metric_num=4")
    train(scored, openmoji32, "--kimg", "0.032", *metrics)
    records = [
        json.loads(line) for line in (scored / "metric-kid_lite2.jsonl").read_text().splitlines()
    ]
    assert [record["images"] for record in records] == [0, 16, 32]
    assert all(record["overrides"] == {"num_images": 4} for record in records)
    a, b = state_of(plain), state_of(scored)
    for part in ("generator", "discriminator", "ema"):
        for name, value in a[part].items():
            assert torch.equal(value, b[part][name]), name


@pytest.mark.multi_process
@pytest.mark.slow
def test_code_books_and_running_statistics_are_the_same_on_every_rank(openmoji32, tmp_path):
    """One process with two rounds counts the same use of the codes as two ranks together."""
    book = '{"num_codes": 16, "code_dim": 4, "slots": 2, "restart_below": 0.0}'
    flags = ("--kimg", "0.016", "--set", f"text.quantizer={book}")
    ranks = start_ranks(*train_command(tmp_path / "ranks", openmoji32, *flags))
    assert [rank.wait().returncode for rank in ranks] == [0, 0]
    train(tmp_path / "rounds", openmoji32, *flags, "--batch-gpu", "4")
    a, b = state_of(tmp_path / "ranks")["generator"], state_of(tmp_path / "rounds")["generator"]
    for part in ("sentence", "words"):
        prefix = f"quantizers.{part}.quantizer."
        buffers = {name: value for name, value in a.items() if name.startswith(prefix)}
        assert buffers[f"{prefix}use"].sum() > 0 and buffers[f"{prefix}num_steps"] == 2
        for name, value in buffers.items():
            torch.testing.assert_close(value, b[name], rtol=1e-4, atol=1e-5)
