"""The estimate of memory against PyTorch's allocator, and the advice where memory runs out."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

import train
from benchmarks.memory import allocated_peak, real_steps
from configs import recipe
from tests.commands.forked import run_command
from torch_utils.memory import BLOCK, LiveMemory
from training import memory_estimate
from training.augment import AugmentConfig
from training.loss_config import LossConfig
from training.memory_estimate import MemoryEstimate, advice, estimate

SMALL = replace(
    recipe("debug"),
    batch=8,
    augment=AugmentConfig(mode="noaug"),
    loss=LossConfig(r1_interval=1, mismatch=1.0),
)


PLAIN = "--set loss.path_length=0 --set loss.style_mixing=0 --set loss.r1_interval=1".split()


def test_live_memory_counts_storages_and_not_views():
    with LiveMemory() as memory:
        x = torch.zeros(1024)
        y = x.view(32, 32)
        assert memory.now == 4096
        z = y + 1
        del z
        assert (memory.now, memory.peak) == (4096, 8192)
        del x, y
        memory.restart()
        assert (memory.now, memory.peak) == (0, 0)
        torch.zeros(1)
    assert memory.peak == BLOCK


@pytest.mark.slow
@pytest.mark.parametrize("batch_gpu", [8, 2])
def test_the_estimate_is_near_what_a_real_run_allocates(batch_gpu):
    config = replace(SMALL, batch_gpu=batch_gpu)
    real_steps(config)  # so that nothing is made for the first time below
    real = allocated_peak(lambda: real_steps(config))
    guess = estimate(config)
    assert guess.total == pytest.approx(real, rel=0.2)
    assert (guess.micro_size, guess.rounds) == (batch_gpu, 8 // batch_gpu)
    parameters = sum(p.numel() for p in config.resolved().build_generator().parameters())
    assert guess.kept["parameters of G"] == 4 * parameters
    assert guess.kept["states of the optimisers"] >= 2 * guess.kept["gradients"]
    assert list(guess.phases) == ["D with R1", "G", "averages"]


@pytest.mark.slow
def test_the_command_estimates_for_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = "--outdir x --recipe debug --device cuda --ranks 2 --estimate-memory --set"
    done = CliRunner().invoke(train.main, [*words.split(), "precision=auto", *PLAIN])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("debug: memory of one process, 1 x 4 images a step, bf16\n")
    assert "activations: D with R1" in done.output
    assert "activations: sum of gradients over ranks" in done.output


def test_the_advice_names_the_flag_and_what_it_saves(monkeypatch):
    def by_size(config, ranks):
        size, rounds = config.micro_batches(ranks)
        return MemoryEstimate("debug", {"all": 2**30}, {"D": size * 2**30}, size, rounds, "fp32")

    monkeypatch.setattr(memory_estimate, "estimate", by_size)
    text = advice(SMALL, 2)
    assert "give --batch-gpu 2 in place of 4" in text and "3.00 GiB in place of 5.00 GiB" in text
    # With one image, no text of another image is left for the mismatched pairs.
    assert "cannot be below 2" in advice(replace(SMALL, batch_gpu=2), 1)
    monkeypatch.setattr(memory_estimate, "estimate", out_of_memory)
    assert "give a smaller --batch-gpu" in advice(SMALL, 1)


def out_of_memory(config, ranks):
    raise MemoryError


# train.py, whose third pass through the networks runs out of memory. The estimate has its own one.
FULL = """
import runpy
import torch
from training.trainer import Trainer

before, passes = Trainer._play, []


def _play(self, *args, **kwargs):
    if type(self) is Trainer:
        passes.append(args)
        if len(passes) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return before(self, *args, **kwargs)


Trainer._play = _play
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.mark.slow
def test_a_run_that_runs_out_of_memory_ends_with_one_line(openmoji32, tmp_path):
    script = tmp_path / "full.py"
    script.write_text(FULL)
    done = run_command(
        *(script, "--outdir", tmp_path / "run", "--data", openmoji32, "--recipe", "debug"),
        *("--device", "cpu", "--batch", "8", "--metrics", "none"),
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()  # and so no traceback
    assert re.fullmatch(
        r"Error: out of memory: give --batch-gpu 4 in place of 8: by the estimate a process then "
        r"needs 0\.\d\d GiB in place of 0\.\d\d GiB; --batch stays the same, as gradients "
        r"accumulate \(Tried to allocate 2\.00 GiB\)",
        line,
    ), line
    assert "batch 8 = 1 x 1 x 8" in done.stdout and "Traceback" not in done.stdout
