"""Faults of training runs. Each function causes one at a point that `draw` chooses.

It returns the point in words, and what went wrong: nothing if the run was recovered.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import torch

import training.launch
from benchmarks.faults.commands import Command
from benchmarks.faults.injections import (
    Injection,
    before_call,
    changes_in,
    in_step,
    json_lines,
    jumping_clock,
    kill,
    kill_at_byte,
    kill_at_change,
    kill_peers,
    kill_worker_at,
    leave_out,
    not_a_number,
    read_only,
    wait_for,
)
from benchmarks.faults.lab import (
    BATCH,
    FIRST,
    PAGE,
    STEPS,
    Lab,
    SkippedFault,
    damaged_files,
    differences,
    enlarge,
    files_in,
    newest_images,
    size_of,
)
from training.checkpoint import checkpoints
from training.run_log import RunLog

Outcome = tuple[str, list[str]]


def _resumed(
    lab: Lab, run: Path, *flags: object, reference: Path, inject: tuple[Injection, ...] = ()
) -> list[str]:
    """Run the command again without the fault -> what is wrong with the result."""
    faults, newest = damaged_files(run), newest_images(run)
    if newest is None:
        return [*faults, "no checkpoint is left"]
    if (run / "stats.jsonl").exists():
        logged = [record["images"] for record in json_lines(run / "stats.jsonl")]
        # A checkpoint begins at every step; the one before it is whole by then.
        if logged and logged[-1] - newest > 2 * BATCH:
            faults.append(f"the newest checkpoint is at {newest}, the log at {logged[-1]} images")
    done = lab.run(lab.train(run, *flags), *inject)
    faults += done.faults("finished")
    if f" at {newest} images." not in done.output:
        faults.append(f"it did not resume at {newest} images: {done.output[-600:]}")
    return faults or differences(run, reference)


def _recovered(lab: Lab, expected: str, *injections: Injection, run: Path | None = None) -> list:
    """Break a run by the injections, and resume it."""
    run = run or lab.begun()
    done = lab.run(lab.train(run), *injections)
    return done.faults(expected) + _resumed(lab, run, reference=lab.reference)


def _step(draw: random.Random) -> tuple[int, str, str]:
    step, player = draw.randint(1, STEPS), draw.choice("DG")
    return step, player, f"in step {step}, before the update of {player}"


def kill_training(lab: Lab, draw: random.Random) -> Outcome:
    step, player, words = _step(draw)
    return words, _recovered(lab, "killed", in_step(step, player, kill))


def _kill_write(lab: Lab, draw: random.Random, pattern: str, low: str, high: str) -> Outcome:
    """Kill at a change of a file that matches `pattern`, or when a file has some number of bytes.

    low, high: endings of file names: all files that are written before are smaller than the
    largest file that ends in `low`, and the file in question ends in `high`.
    """
    run = lab.begun()
    if draw.random() < 0.5:
        sizes = {name: len(data) for name, data in files_in(lab.reference).items()}
        least, most = (max(n for name, n in sizes.items() if name.endswith(e)) for e in (low, high))
        size = draw.randrange(least, most)
        return f"after {size} bytes", _recovered(lab, "killed", kill_at_byte(size), run=run)
    changes = changes_in(lab.notes, pattern)
    number = draw.randrange(len(changes))
    inject = kill_at_change(run, pattern, number)
    words = f"before change {number + 1} of {len(changes)}: {changes[number]}"
    return words, _recovered(lab, "killed", inject, run=run)


def kill_checkpoint(lab: Lab, draw: random.Random) -> Outcome:
    return _kill_write(lab, draw, "training-state-", ".safetensors", ".pt")


def kill_snapshot(lab: Lab, draw: random.Random) -> Outcome:
    return _kill_write(lab, draw, "network-snapshot-", ".png", ".safetensors")


def kill_any_change(lab: Lab, draw: random.Random) -> Outcome:
    run, changes = lab.begun(), changes_in(lab.notes)
    number = draw.randrange(len(changes))
    faults = _recovered(lab, "killed", kill_at_change(run, "", number), run=run)
    return f"before change {number + 1} of {len(changes)} of the run folder", faults


def full_disk(lab: Lab, draw: random.Random) -> Outcome:
    before, after = size_of(lab.base), size_of(lab.reference)
    size = draw.randrange(before // PAGE + 1, after // PAGE) * PAGE
    with lab.small_disk(size) as run:
        lab.begun(run)
        done = lab.run(lab.train(run))
        faults = done.faults("refused: No space left on device")
        enlarge(run)
        faults += _resumed(lab, run, reference=lab.reference)
    return f"{size - before} bytes were free", faults


def _damaged(lab: Lab, damage: bytes, *, noticed: bool) -> list[str]:
    """Replace the newest of two checkpoints by other bytes, and resume the run."""
    run = lab.place()
    shutil.copytree(lab.stopped, run)
    newest, before = checkpoints(run)
    newest.write_bytes(damage)
    done = lab.run(lab.train(run))
    faults = done.faults("finished") + differences(run, lab.reference)
    reported = f"{newest.name} cannot be read" in done.output
    if noticed and not reported:
        faults.append("the damaged checkpoint was not reported")
    if f"Resumed from {before.name if reported else newest.name}" not in done.output:
        faults.append(f"resumed from another checkpoint: {done.output[-600:]}")
    return faults


def truncated_checkpoint(lab: Lab, draw: random.Random) -> Outcome:
    whole = checkpoints(lab.stopped)[0].read_bytes()
    size = draw.randrange(len(whole))
    return f"to {size} of {len(whole)} bytes", _damaged(lab, whole[:size], noticed=True)


def flipped_bit(lab: Lab, draw: random.Random) -> Outcome:
    """A flipped bit in the padding between the records changes nothing and is not reported."""
    whole = bytearray(checkpoints(lab.stopped)[0].read_bytes())
    place, bit = draw.randrange(len(whole)), draw.randrange(8)
    whole[place] ^= 1 << bit
    return f"bit {bit} of byte {place}", _damaged(lab, bytes(whole), noticed=False)


def not_finite(lab: Lab, draw: random.Random, policy: str) -> Outcome:
    """A run under 'stop' goes on like an undisturbed one; the others are compared with runs that
    reach the same end without the fault: by leaving the update out, and from the checkpoint on with
    the random streams of the first rollback.
    """
    step, player, words = _step(draw)
    value = draw.choice([float("nan"), float("inf")])
    words = f"{value} {words}"
    run, flags = lab.begun(), ("--nan-policy", policy)
    inject = in_step(step, player, not_a_number(value, draw.randrange(100)))
    done = lab.run(lab.train(run, *flags), inject)
    if policy == "stop":
        faults = done.faults("refused: was not finite in 1 of the last steps")
        return words, faults + _resumed(lab, run, *flags, reference=lab.reference)
    faults, other = done.faults("finished"), lab.begun()
    if policy == "skip":
        faults += lab.run(lab.train(other), in_step(step, player, leave_out)).faults("finished")
        if (skipped := json_lines(run / "stats.jsonl")[-1]["skipped"]) != 1:
            faults.append(f"{skipped} steps were skipped")
    else:
        images = FIRST + BATCH * (step - 1)
        if images > FIRST:
            faults += lab.run(lab.train(other, "--kimg", images / 1000)).faults("finished")
        state = torch.load(checkpoints(other)[0], weights_only=True)
        state["progress"]["rollbacks"] = 1
        torch.save(state, checkpoints(other)[0])
        faults += lab.run(lab.train(other)).faults("finished")
        if f"back to {images} images (rollback 1)" not in done.output:
            faults.append(f"no rollback to {images} images: {done.output[-600:]}")
    return words, faults or damaged_files(run) + differences(run, other, weights_only=True)


def dying_rank(lab: Lab, draw: random.Random, rank: int) -> Outcome:
    step, player, words = _step(draw)
    run, flags = lab.begun(), ("--ranks", 2)
    inject = in_step(step, player, kill_peers if rank else kill)
    done = lab.run(lab.train(run, *flags), inject)
    faults = done.faults("refused: process 1 was ended by SIGKILL" if rank else "killed")
    return words, faults + _resumed(lab, run, *flags, reference=lab.reference_of_two_ranks)


def jumped_clock(lab: Lab, draw: random.Random) -> Outcome:
    """The clock jumps in the run and again before it is resumed; files get dates of the future."""
    step, player, words = _step(draw)
    years = draw.choice([-20, -1, 1, 10])
    jump = jumping_clock(draw.randint(1, 20), years * 3.156e7)
    run = lab.begun()
    faults = lab.run(lab.train(run), jump, in_step(step, player, kill)).faults("killed")
    future = time.time() + 3.156e8
    for number, path in enumerate(checkpoints(run)):  # the newest gets the oldest date
        os.utime(path, (future + number, future + number))
    back = jumping_clock(draw.randint(1, 20), -years * 3.156e7)
    faults += _resumed(lab, run, reference=lab.reference, inject=(back,))
    elapsed = [record["elapsed_s"] for record in json_lines(run / "stats.jsonl")]
    if elapsed != sorted(elapsed):
        faults.append(f"the time of training goes back: {elapsed}")
    return f"by {years} years; killed {words}", faults


def killed_worker(lab: Lab, draw: random.Random) -> Outcome:
    position, num = draw.randrange(FIRST, FIRST + BATCH * STEPS), draw.choice([1, 2])
    run, flags = lab.begun(), ("--workers", num)
    done = lab.run(lab.train(run, *flags), kill_worker_at(position))
    faults = done.faults("refused: a process that loads pictures ")
    faults += _resumed(lab, run, *flags, reference=lab.reference)
    return f"at picture {position}, of {num} workers", faults


def read_only_folder(lab: Lab, draw: random.Random) -> Outcome:
    if not lab.mounts:
        raise SkippedFault("needs root, to mount a folder read-only")
    run = lab.begun()
    if begun := draw.random() < 0.5:
        shutil.copytree(lab.stopped, run, dirs_exist_ok=True)
    before = files_in(run)
    done = lab.run(lab.train(run), read_only(run))
    faults = done.faults("refused: cannot be written (Read-only file system)")
    if files_in(run) != before:
        faults.append("files have changed")
    words = "of a run that has begun" if begun else "with one checkpoint"
    return words, faults + _resumed(lab, run, reference=lab.reference)


def _await(go: Path, *commands: Command) -> None:
    """Wait until every command waits for the file `go`, or one has ended."""
    while len(list(go.parent.glob(f"{go.name}.*"))) < len(commands):
        if not all(command.process.is_alive() for command in commands):
            return
        time.sleep(0.01)


def two_at_once(lab: Lab, draw: random.Random) -> Outcome:
    """The second command starts while the first trains, or both start together."""
    run, go = lab.begun(), lab.place()
    go.parent.mkdir(parents=True, exist_ok=True)
    if draw.random() < 0.5:
        tick = draw.randint(1, STEPS)
        first = lab.start(lab.train(run), before_call(RunLog, "tick", tick, wait_for(go)))
        _await(go, first)
        second = lab.run(lab.train(run))
        go.touch()
        ends, words = [first.wait(), second], f"the second one at tick {tick} of the first"
    else:
        meet = before_call(training.launch, "enter", 1, wait_for(go))
        both = [lab.start(lab.train(run), meet) for _ in range(2)]
        _await(go, *both)
        go.touch()
        ends, words = [command.wait() for command in both], "both at the same moment"
        ends.sort(key=lambda done: done.code)
    faults = ends[0].faults("finished") + ends[1].faults("refused: is in use by another process")
    if str(run) not in ends[1].output:
        faults.append("the folder is not named")
    return words, faults + damaged_files(run) + differences(run, lab.reference)
