"""torchrun on two hosts, which are two network namespaces of this machine with a cable between."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.commands.forked import start_ranks
from tests.training.test_training_runs import ROOT, state_of, train_command, wait_for_ticks

ADDRESSES = ("10.213.77.1", "10.213.77.2")
FLAGS = ("--kimg", "0.072", "--tick", "0.008", "--snap", "99", "--batch-gpu", "2")
FLAGS += ("--checkpoint-minutes", "0.000001")
TIME_LIMIT_S = 400  # an idle machine needs 30 s


def ip(*words, check=True):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


@pytest.fixture
def hosts():
    """The names of two network namespaces whose interfaces eth0 see each other, and no others."""
    names = [f"eidgan-{os.getpid()}-{letter}" for letter in "ab"]
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ends = ("eth0", "netns", names[0]), ("eth0", "netns", names[1])
        ip("link", "add", *ends[0], "type", "veth", "peer", "name", *ends[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for interface in ("eth0", "lo"):
                ip("-n", name, "link", "set", interface, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        for name in made:
            ip("netns", "del", name, check=False)
        pytest.skip(f"network namespaces need root and the command ip: {error}")
    yield names
    for name in names:
        for process in ip("netns", "pids", name, check=False).stdout.split():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(int(process), signal.SIGKILL)
        ip("netns", "del", name, check=False)


def start_host(names, number, command, output):
    """torchrun with two ranks on one of the hosts; host 0 serves the rendezvous."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    words += ["--nproc-per-node", "2", "--max-restarts", "3", "--rdzv-backend", "c10d"]
    words += ["--rdzv-endpoint", f"{ADDRESSES[0]}:29400", "--rdzv-id", "two-hosts"]
    # Both hosts have the name of this machine, so the addresses are given.
    words += ["--rdzv-conf", f"is_host={1 - number}", "--local-addr", ADDRESSES[number]]
    settings = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "GLOO_SOCKET_IFNAME": "eth0"}
    with open(output, "w") as file:
        return subprocess.Popen(
            ["ip", "netns", "exec", names[number], *words, *command],
            cwd=ROOT,
            env=os.environ | settings,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def ranks_of(name):
    """{rank: process} of train.py on a host."""
    found = {}
    for process in ip("netns", "pids", name).stdout.split():
        folder = Path("/proc", process)
        words = folder.joinpath("cmdline").read_bytes().split(b"\0")
        for variable in folder.joinpath("environ").read_bytes().split(b"\0"):
            key, _, value = variable.partition(b"=")
            if key == b"RANK" and b"train.py" in words:
                found[int(value)] = int(process)
    return found


@pytest.mark.slow
@pytest.mark.multi_process
def test_a_run_on_two_hosts_survives_the_loss_of_a_rank(hosts, openmoji32, tmp_path):
    """The weights are those of four ranks on one host that nothing disturbed, bit for bit."""
    lost, whole = tmp_path / "lost", tmp_path / "whole"
    outputs = [tmp_path / "host-0", tmp_path / "host-1"]
    command = train_command(lost, openmoji32, *FLAGS)
    running = [start_host(hosts, number, command, outputs[number]) for number in (0, 1)]
    wait_for_ticks(lost, 3)
    ranks = ranks_of(hosts[1])
    assert len(ranks) == 2, outputs[1].read_text()
    os.kill(ranks[max(ranks)], signal.SIGKILL)
    deadline = time.monotonic() + TIME_LIMIT_S
    codes = [host.wait(max(deadline - time.monotonic(), 1)) for host in running]
    text = "".join(path.read_text() for path in outputs)
    assert codes == [0, 0], text
    assert "batch 8 = 4 x 1 x 2" in text and "Resumed from training-state-" in text, text
    assert "exitcode: -9" in text or "Signal 9" in text, text

    undisturbed = start_ranks(*train_command(whole, openmoji32, *FLAGS), count=4)
    assert [rank.wait().returncode for rank in undisturbed] == [0] * 4
    left, right = state_of(lost), state_of(whole)
    assert left["progress"]["images"] == right["progress"]["images"] == 72
    for part in ("generator", "discriminator", "ema"):
        for name, value in left[part].items():
            assert torch.equal(value, right[part][name]), name
