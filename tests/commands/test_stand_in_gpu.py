"""Every command through its `cuda` branches, on the stand-in of tests/stand_in_gpu.

The results must equal the CPU's within a tolerance: 1e-4 relative for three steps of the debug
recipe in float32, one level of 255 for pictures. The tests' docstrings give other tolerances.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.text_image import TextImageDataset
from networks.generators import preset
from networks.snapshot import Snapshot
from networks.text_encoders import load_encoder
from networks.text_encoders.cache import CachedTextEncoder, cache_key
from tests.commands.forked import run_command, start_command, start_ranks
from tests.commands.run_results import (
    assert_same_pictures,
    assert_same_run,
    await_ticks,
    records,
)
from torch_utils.ops import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or shutil.which("c++") is None,
        reason="the stand-in GPU needs Linux and a C++ compiler",
    ),
]
# With its usual epsilon, Adam takes full steps along gradients that are only rounding errors.
STEADY = ("--set", "optimizer_g.eps=0.1", "--set", "optimizer_d.eps=0.1", "--report-to", "none")
STEADY += ("--cuda-graph", "off")  # the stand-in has no CUDA graphs
DEBUG = ("train.py", "--recipe", "debug", "--tick", "0.008", *STEADY)
# An empty library serves as a plugin, so that plain PyTorch computes its operators. The library has
# no functions that say which sizes its kernels support, so this script defines them: all sizes.
WITH_PLUGINS = """
import runpy, sys, torch
library = torch.library.Library("eidgan", "FRAGMENT")
for schema in ("biline_decode_covers(ScalarType dtype, int[] widths) -> bool",
               "biline_decode_backward_covers(ScalarType dtype, int[] widths, int depth) -> bool",
               "biline_render_covers(ScalarType dtype, int[] widths, int[] refinement) -> bool"):
    library.impl(library.define(schema), lambda *sizes: True, "CompositeExplicitAutograd")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# The eighth optimiser step is the last one of the third training step.
DIVERGING = """
import runpy, sys
from training.optimize import Player
step, count = Player.step, [0]

def poisoned(self, *arguments):
    count[0] += 1
    if count[0] == 8:
        next(p.grad for p in self.parameters if p.grad is not None).fill_(float("nan"))
    return step(self, *arguments)

Player.step = poisoned
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


STAND_IN = "tests/stand_in_gpu"


def succeed(device, *arguments, **variables):
    """Run a command with --device, on the stand-in if the device is a GPU. It must succeed."""
    place = () if device == "cpu" else (STAND_IN,)
    done = run_command(*place, *arguments, "--device", device, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def data(openmoji32, tmp_path_factory):
    """A copy of the data set in a folder into which no other test writes text features."""
    return Path(shutil.copy(openmoji32, tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Run folders, by device, of three steps of the debug recipe with scores at start and end."""
    folder = tmp_path_factory.mktemp("debug")
    for device in ("cuda", "cpu"):
        done = succeed(
            device,
            *(*DEBUG, "--outdir", folder / device, "--data", data),
            *"--kimg 0.024 --snap 3 --metrics kid_lite2 --set metric_num=4 --ops ref".split(),
        )
        assert f"; {device} x 1; " in done.stdout and "precision: fp32" in done.stdout
    return {device: folder / device for device in ("cuda", "cpu")}


def test_training_with_metrics_equals_the_cpu(trained):
    assert_same_run(trained["cuda"], trained["cpu"], 1e-4)
    stats = records(trained["cuda"] / "stats.jsonl")
    assert len(stats) == 3 and {tick["gpu_gib"] for tick in stats} == {3.0}  # of the first device
    scores, expected = (
        records(trained[device] / "metric-kid_lite2.jsonl") for device in ("cuda", "cpu")
    )
    assert [score["images"] for score in scores] == [0, 24]
    assert {score["device"] for score in scores} == {"cuda"}
    values = [score["value"] for score in expected]
    assert [score["value"] for score in scores] == pytest.approx(values, rel=1e-3)
    assert_same_pictures(trained["cuda"], trained["cpu"])


VIEWS = {
    "tiles": ("--size", "50x30", "--tile", "101", "--seeds", "0-1", "--grid"),
    "large": ("--size", "96x64", "--trunc", "0.7", "--trunc-center", "global"),
    "window": ("--size", "24x12", "--window", "-0.5,0,1.5,1", "--trunc", "0.5"),
}


@pytest.mark.parametrize("view", VIEWS)
def test_pictures_equal_the_cpus(trained, tmp_path, view):
    for device in ("cuda:1", "cpu"):  # the second GPU is not PyTorch's current one
        done = succeed(
            device,
            "generate.py",
            "--network",
            trained["cuda"],
            "--prompts",
            "a red apple",
            "--ops",
            "ref",
            "--outdir",
            tmp_path / device,
            *VIEWS[view],
        )
        assert f" on {device}, operators: plain PyTorch (ref)" in done.stderr
    assert_same_pictures(tmp_path / "cuda:1", tmp_path / "cpu")


def test_scores_and_references_equal_the_cpus(trained, data, tmp_path):
    network = ("--network", trained["cuda"], "--data", data)
    calc = ("calc_metrics.py", "calc", "--num", "4", "--ops", "ref")
    found = {}
    for device in ("cuda", "cpu"):
        succeed(
            device,
            "calc_metrics.py",
            "ref",
            "--data",
            data,
            "--metrics",
            "kid_lite2",
            "--dest",
            tmp_path / f"{device}.npz",
        )
        done = succeed(
            device,
            *calc,
            *network,
            "--metrics",
            "kid_lite2,clip_s_small",
            "--cache",
            tmp_path / device,
        )
        found[device] = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["metric"] for line in found[device]] == ["kid_lite2", "clip_s_small"]
        assert {line["device"] for line in found[device]} == {device}
    scores, expected = ([line["value"] for line in lines] for lines in found.values())
    assert scores == pytest.approx(expected, rel=1e-3)
    with np.load(tmp_path / "cuda.npz") as ours, np.load(tmp_path / "cpu.npz") as theirs:
        for name in theirs.files:
            if theirs[name].dtype.kind == "f":
                np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
    succeed(
        "cuda",
        "calc_metrics.py",
        "gen",
        *network,
        *"--num 4 --metrics kid_lite2 --ops ref".split(),
        "--outdir",
        tmp_path / "pictures",
    )
    done = succeed(
        "cuda",
        *calc,
        "--images",
        tmp_path / "pictures",
        "--ref",
        tmp_path / "cuda.npz",
        "--metrics",
        "kid_lite2",
    )
    assert json.loads(done.stdout)["value"] == pytest.approx(expected[0], rel=1e-3)


def test_pictures_for_other_tools_are_those_that_are_scored(data, tmp_path):
    """The pictures are equal bit for bit. `calc` switches TF32 off, so `gen` must do it, too."""
    network = Snapshot(preset("stylegan2-tiny").build(), "hashed", 32, {})
    network.save_pretrained(tmp_path / "network")
    for device in ("cuda", "cpu"):
        succeed(
            device,
            "calc_metrics.py",
            "gen",
            "--network",
            tmp_path / "network",
            "--data",
            data,
            *"--num 4 --ops ref".split(),
            "--outdir",
            tmp_path / device,
        )
    assert_same_pictures(tmp_path / "cuda", tmp_path / "cpu", levels=0)


@pytest.fixture(scope="module")
def encoded(data):
    """The data set, with its text features beside it, where training looks for them."""
    return data, succeed("cuda", "dataset_tool.py", "encode-text", "--data", data)


def test_text_features_equal_the_cpus(encoded):
    data, done = encoded
    assert "captions of train by" in done.stdout and "captions of test by" in done.stdout
    dataset = TextImageDataset(data, split="test")
    captions = [caption for index in range(len(dataset)) for caption in dataset.captions(index)]
    folder, encoder = data.parent / ".cache", load_encoder("small")
    assert (folder / f"text-{cache_key(encoder.id, captions)}").is_dir()
    ours, expected = (
        source.encode_text(captions[:8])
        for source in (CachedTextEncoder.build(encoder, captions, folder), encoder)
    )
    torch.testing.assert_close(ours.sentence, expected.sentence, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.mask, expected.mask)  # words are kept as fp16
    torch.testing.assert_close(
        ours.words[ours.mask], expected.words[ours.mask], rtol=2e-3, atol=1e-3
    )


def test_a_killed_run_goes_on_to_the_unbroken_ones_end(encoded, tmp_path):
    """The tolerance is 1e-2, after about five steps of the recipe with narrower networks."""
    data, killed, unbroken = encoded[0], tmp_path / "cuda", tmp_path / "cpu"
    base = (
        "train.py",
        "--recipe",
        "eidgan-openmoji32",
        "--data",
        data,
        *"--aug ada --tick 0.008 --snap 99 --ops ref --workers 1".split(),
        *"--set generator.channels=[32,32,32,32]".split(),
        *"--batch 8 --set discriminator.head_channels=16 --set precision=fp32".split(),
        *"--set lr_decay=0 --set augment.p=0.3".split(),
        *STEADY,
    )
    endless = (STAND_IN, *base, "--outdir", killed, "--device", "cuda", "--kimg", "9")
    first = start_command(*endless)
    await_ticks(first, killed, 1)
    first.send_signal(signal.SIGTERM)
    done = first.wait()
    assert done.returncode == 3 and "run the same command again" in done.stdout
    saved = len(records(killed / "stats.jsonl"))
    second = start_command(*endless)
    await_ticks(second, killed, saved + 1)
    second.send_signal(signal.SIGKILL)
    assert second.wait().returncode == -signal.SIGKILL
    length = ("--kimg", str(0.008 * (saved + 1)))
    third = succeed("cuda", *base, "--outdir", killed, *length)
    assert f"Resumed from training-state-000000.pt at {8 * saved} images" in third.stdout
    succeed("cpu", *base, "--outdir", unbroken, *length)
    assert_same_run(killed, unbroken, 1e-2)
    assert [tick["tick"] for tick in records(killed / "stats.jsonl")] == [*range(1, saved + 2)]


def test_an_old_gpu_without_plugins_trains_in_float32_and_returns_from_a_nan(data, tmp_path):
    (tmp_path / "diverging.py").write_text(DIVERGING)
    done = succeed(
        "cuda",
        tmp_path / "diverging.py",
        *(*DEBUG, "--outdir", tmp_path / "run", "--data", data),
        *"--kimg 0.024 --snap 2 --nan-policy rollback --set precision=auto".split(),
        STAND_IN_CAPABILITY="7.5",
        EIDGAN_CACHE=str(tmp_path),
        TORCH_CUDA_ARCH_LIST="",
    )
    assert done.stderr.count("CUDA operators are off, plain PyTorch runs instead") == 1
    assert "operators: plain PyTorch (modulated_linear, biline: " in done.stdout
    assert "precision: fp32" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("At 24 images ")]
    assert "the gradient of G was not finite in 1 of the last steps (means of this tick: " in line
    assert ": back to 16 images" in line
    assert [tick["images"] for tick in records(tmp_path / "run/stats.jsonl")] == [8, 16, 24]


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """A cache with plugins for the stand-in GPU, and the script that runs commands with them."""
    folder = tmp_path_factory.mktemp("plugins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EIDGAN_CACHE", str(folder))
        for name in build.PLUGINS:
            library = build.source_folder(name) / "nvcc13.0-sm_90" / f"{name}.so"
            library.parent.mkdir(parents=True)
            subprocess.run(["c++", "-shared", "-x", "c++", "/dev/null", "-o", library], check=True)
    (folder / "with_plugins.py").write_text(WITH_PLUGINS)
    return folder


def test_with_plugins_the_registered_operators_train_in_bf16(plugins, trained, data, tmp_path):
    """The tolerance of the run is 0.1, because autocast on a CPU has another list of operators."""
    script, cache = plugins / "with_plugins.py", {"EIDGAN_CACHE": str(plugins)}
    for device, precision, ops in (("cuda", "auto", "cuda"), ("cpu", "bf16", "ref")):
        done = succeed(
            device,
            script,
            *(*DEBUG, "--outdir", tmp_path / device, "--data", data),
            *"--kimg 0.016 --snap 9".split(),
            *("--ops", ops, "--set", f"precision={precision}"),
            **cache,
        )
        words = "CUDA kernels" if device == "cuda" else "plain PyTorch (ref)"
        assert f"operators: {words}; precision: bf16" in done.stdout
    assert_same_run(tmp_path / "cuda", tmp_path / "cpu", 0.1)
    rounded, exact = (
        records(run / "stats.jsonl")[0]["Loss/D"] for run in (tmp_path / "cuda", trained["cuda"])
    )
    assert 1e-5 < abs(rounded - exact) < 0.1
    draw = ("generate.py", "--network", trained["cuda"], "--prompts", "a red apple")
    drawn = succeed("cuda", script, *draw, "--outdir", tmp_path / "kernels", **cache)
    assert "operators: CUDA kernels" in drawn.stderr
    succeed("cpu", *draw, "--ops", "ref", "--outdir", tmp_path / "plain")
    assert_same_pictures(tmp_path / "kernels", tmp_path / "plain")


@pytest.mark.multi_process
def test_two_ranks_on_two_gpus_equal_one_process_on_the_cpu(data, tmp_path):
    """The tolerance is 1e-3, and 1e-2 for the score."""
    flags = (
        *DEBUG,
        "--data",
        data,
        *"--kimg 0.016 --snap 2 --metrics kid_lite2 --set metric_num=4 --ops ref".split(),
    )
    ranks = start_ranks(STAND_IN, *flags, "--outdir", tmp_path / "ranks", "--device", "cuda")
    first, second = (command.wait() for command in ranks)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "cuda x 2; batch 8 = 2 x 1 x 4" in first.stdout and not second.stdout.strip()
    succeed("cpu", *flags, "--outdir", tmp_path / "rounds", "--batch-gpu", "4")
    assert_same_run(tmp_path / "ranks", tmp_path / "rounds", 1e-3)
    scores, expected = (
        [score["value"] for score in records(folder / "metric-kid_lite2.jsonl")]
        for folder in (tmp_path / "ranks", tmp_path / "rounds")
    )
    assert scores == pytest.approx(expected, rel=1e-2)


def test_the_doctor_reports_the_gpus():
    done = run_command(STAND_IN, "doctor.py")
    assert done.returncode == 0, done.stderr
    assert re.search(r"GPU 0 +Stand-in GPU, compute capability 9.0, 80 GiB", done.stdout)
    assert "GPU 1 " in done.stdout


def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    done = run_command(
        STAND_IN, "generate.py", "--network", tmp_path, "--prompts", "x", "--device", "cuda:2"
    )
    assert done.returncode == 1
    assert "--device cuda:2: torch sees 2 CUDA devices" in done.stderr
