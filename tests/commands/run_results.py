"""Await, read and compare the results of commands, for `test_stand_in_gpu.py`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def weights_of(run):
    newest = sorted(run.glob("training-state-*.pt"))[-1]
    state = torch.load(newest, weights_only=True, map_location="cpu")
    return {
        f"{part}.{name}": value.float()
        for part in ("generator", "discriminator", "ema")
        for name, value in state[part].items()
    }


def assert_same_run(a, b, tolerance):
    """Losses, gradients and logits of every tick and all weights differ by at most `tolerance`.

    The difference is taken relative to numbers above 1, and absolute below.
    """
    for left, right in zip(records(a / "stats.jsonl"), records(b / "stats.jsonl"), strict=True):
        assert left.keys() == right.keys() and left["images"] == right["images"]
        for name in left:
            if name.startswith(("Loss/", "Gradient/", "Logits/")):
                close = pytest.approx(right[name], rel=tolerance, abs=tolerance)
                assert left[name] == close, (left["tick"], name)
    left, right = weights_of(a), weights_of(b)
    assert left.keys() == right.keys()
    for name, value in right.items():
        difference = (left[name] - value).abs().max()
        assert difference <= tolerance * max(1.0, value.abs().max()), name


def assert_same_pictures(a, b, levels=1):
    """The PNGs of two folders have the same names and sizes, and differ by at most `levels`."""
    names = sorted(path.name for path in b.glob("*.png"))
    assert names and names == sorted(path.name for path in a.glob("*.png"))
    for name in names:
        with Image.open(a / name) as left, Image.open(b / name) as right:
            assert left.size == right.size
            difference = np.asarray(left, np.int16) - np.asarray(right, np.int16)
            assert np.abs(difference).max() <= levels, name


def await_ticks(command, run, number):
    """Wait until the log of a running command has `number` lines.

    If it does not get there, the command is ended: pytest waits at its exit for all processes.
    """
    log, deadline = run / "stats.jsonl", time.monotonic() + 240
    while (
        time.monotonic() < deadline
        and command.process.is_alive()
        and (not log.exists() or len(log.read_text().splitlines()) < number)
    ):
        time.sleep(0.02)
    reached = log.exists() and len(records(log)) >= number
    if not reached:
        command.kill()
    assert reached, [*map(Path.read_text, command.files)]
