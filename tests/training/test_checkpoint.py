"""Checkpoints that a thread writes while training goes on."""

from __future__ import annotations

import errno
import random
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from configs import recipe
from dnnlib.errors import UserError
from tests.training.steps import make_trainer, run_steps
from training.checkpoint import CheckpointIO, checkpoints, copy_on_cpu, options_in, read_newest
from training.launch import run

SAVE = torch.save


@pytest.fixture
def gate(monkeypatch):
    """An event that every write of a checkpoint waits for."""
    event = threading.Event()

    def save(state, file):
        assert event.wait(60)
        SAVE(state, file)

    monkeypatch.setattr("torch.save", save)
    yield event
    event.set()


def same(left, right):
    """Whether nested states are equal to the last bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right) and left.stride() == right.stride()
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def test_steps_during_the_write_do_not_change_the_checkpoint(openmoji32, tmp_path, gate):
    trainer = make_trainer(recipe("debug"))
    run_steps(trainer, openmoji32, 1)
    state = copy_on_cpu({name: item.state_dict() for name, item in trainer.objects.items()})
    with CheckpointIO(tmp_path, trainer.objects) as io:
        io.start_save(trainer.progress.images)
        run_steps(trainer, openmoji32, 1)
        io.check()  # does not wait
        assert not list(tmp_path.glob("training-state-*.pt"))  # whole or absent
        later = {name: item.state_dict() for name, item in trainer.objects.items()}
        assert not same(state["generator"], later["generator"])
        gate.set()
        written = torch.load(io.finish(), weights_only=True)
    for name, value in state.items():
        assert same(value, written[name]), name


def test_a_second_checkpoint_waits_for_the_first(tmp_path, gate):
    layer = nn.Linear(2, 2)
    with CheckpointIO(tmp_path, {"layer": layer}, keep_latest=3) as io:
        io.start_save(1000)
        second = threading.Thread(target=io.start_save, args=(2000,))
        second.start()
        second.join(0.2)
        assert second.is_alive() and not list(tmp_path.glob("training-state-*.pt"))
        gate.set()
        second.join()
        assert (tmp_path / "training-state-000001.pt").exists()
    assert (tmp_path / "training-state-000002.pt").exists()  # the end of the block waits


@pytest.mark.parametrize("keep_latest", [1, 2])
def test_the_newest_checkpoints_are_kept(tmp_path, keep_latest):
    io = CheckpointIO(tmp_path, {"layer": nn.Linear(2, 2)}, keep_latest=keep_latest)
    for images in (1000, 2000, 3000):
        io.save(images)
    newest = [f"training-state-{kimg:06d}.pt" for kimg in (1, 2, 3)][-keep_latest:]
    assert sorted(path.name for path in tmp_path.iterdir()) == newest


@pytest.mark.parametrize("keep_latest", [1, 2])
def test_a_damaged_newer_checkpoint_does_not_count(tmp_path, keep_latest):
    """The run goes on from the checkpoint before the damaged one and writes between the two."""
    io = CheckpointIO(tmp_path, {"layer": nn.Linear(2, 2)}, keep_latest=keep_latest)
    io.save(80_000)
    damaged = tmp_path / "training-state-000100.pt"
    damaged.write_bytes(b"damaged")
    io.save(90_000)
    kept = [path.name for path in checkpoints(tmp_path) if path != damaged]
    assert kept == [f"training-state-{kimg:06d}.pt" for kimg in (90, 80)][:keep_latest]
    assert damaged.exists()


@pytest.mark.parametrize(
    "error, raised",
    [
        (MemoryError(), MemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError),
        (OSError(errno.EIO, "Input/output error"), UserError),
    ],
)
def test_a_checkpoint_that_was_not_read_is_not_called_damaged(tmp_path, monkeypatch, error, raised):
    io = CheckpointIO(tmp_path, {}, keep_latest=2)
    io.save(1000)
    newest = io.save(2000)

    def load(path, **options):
        raise error

    monkeypatch.setattr("torch.load", load)
    with pytest.raises(raised) as caught:
        read_newest(tmp_path)
    assert caught.value is error or f"{newest} cannot be read: Input" in str(caught.value)


def test_a_copy_on_the_cpu_keeps_types_and_shares_no_memory():
    layer = nn.BatchNorm2d(2)
    rest = [torch.ones(2), (1, "a")]
    state: dict[str, Any] = {"layer": layer.state_dict(), "rest": rest}
    copied = copy_on_cpu(state)
    assert same(copied, state) and type(copied["layer"]) is type(state["layer"])
    assert copied["layer"]._metadata == state["layer"]._metadata
    assert copied["layer"]["weight"].data_ptr() != layer.weight.data_ptr()


def test_a_failed_write_ends_the_run_at_the_next_tick(openmoji32, tmp_path, monkeypatch):
    """The disk is full from the second checkpoint on."""
    monkeypatch.setattr("faulthandler.enable", lambda: None)  # it needs a real stderr
    writes = []

    def save(state, file):
        writes.append(state["progress"]["images"])
        if len(writes) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        SAVE(state, file)

    monkeypatch.setattr("torch.save", save)
    config = replace(
        recipe("debug"),
        data=str(openmoji32),
        kimg=1.0,
        tick_kimg=0.008,
        snapshot_ticks=100,
        checkpoint_minutes=1e-9,
        report_to=(),
        device="cpu",
    )
    message = r"training-state-000000.pt: cannot be written \(No space left on device\)"
    with pytest.raises(UserError, match=message):
        run(config, tmp_path)
    assert writes == [0, 8]
    assert len((tmp_path / "stats.jsonl").read_text().splitlines()) == 2
    assert torch.load(tmp_path / "training-state-000000.pt")["progress"]["images"] == 0
    assert not list(tmp_path.glob(".training-state*"))


def test_a_flipped_bit_is_never_read_as_a_weight(tmp_path, capsys):
    """torch.load alone reads most of these files without an error."""
    layer = nn.Linear(40, 40)
    io = CheckpointIO(tmp_path, {"layer": layer}, {"recipe": "x", "generator": {}})
    io.save(1000)
    before = io.save(2000).read_bytes()
    weights, passed_torch = copy_on_cpu(layer.state_dict()), 0
    draw = random.Random(0)
    for _ in range(60):
        damaged = bytearray(before)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        (tmp_path / "training-state-000002.pt").write_bytes(damaged)
        newest, options = read_newest(tmp_path), options_in(tmp_path)
        assert newest is not None and options == {"recipe": "x", "generator": {}}
        path, state = newest
        assert same(state["layer"], weights)
        if path.stem.endswith("1"):
            assert "training-state-000002.pt cannot be read" in capsys.readouterr().out
            try:
                torch.load(tmp_path / "training-state-000002.pt", weights_only=True)
                passed_torch += 1
            except Exception:  # this flip would have been noticed anyway
                continue
    assert passed_torch > 30
