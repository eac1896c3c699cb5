"""Ways to break a command, for the process that will run it. Each function returns an injection."""

from __future__ import annotations

import ctypes
import itertools
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults.commands import Injection
from datasets.loader import TrainingDraws
from dnnlib.files import TEMPORARY
from training.optimize import Player
from training.trainer import Trainer

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}


def kill(*_: object) -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


# Changes of files.


def _watch(folder: Path, pattern: str, react: Callable[[str], object]) -> None:
    """Call `react` before each change below `folder` of a file whose name matches `pattern`.

    Changes are files opened for writing, renamed, deleted or synced, and folders made or deleted.
    """
    process, place = os.getpid(), os.path.realpath(folder) + os.sep

    def changed(kind: str, path: object) -> None:
        if os.getpid() != process or not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.path.abspath(os.fsdecode(path))
        if name.startswith(place):
            name = TEMPORARY.sub(r"TEMPORARY-\g<target>", name.removeprefix(place))
            if re.search(pattern, name):
                react(f"{kind} {name}")

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                changed("open", path)
        elif event in _CHANGES:
            changed(event.rpartition(".")[2], arguments[1 if event == "os.rename" else 0])

    sys.addaudithook(audit)
    os.fsync = lambda fd: changed("fsync", os.readlink(f"/proc/self/fd/{fd}"))


def noted_changes(folder: Path, note: Path) -> Injection:
    """Write the list of all changes below `folder` to the file `note`, one a line."""

    def inject() -> None:
        handle = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        _watch(folder, "", lambda line: os.write(handle, f"{line}\n".encode()))

    return inject


def kill_at_change(folder: Path, pattern: str, number: int) -> Injection:
    """Kill the process before the change with this number (from 0) that matches `pattern`."""
    numbers = itertools.count()

    def react(_: str) -> None:
        if next(numbers) == number:
            kill()

    return partial(_watch, folder, pattern, react)


def kill_at_byte(size: int) -> Injection:
    """Kill the process when a file would grow beyond `size` bytes; that many stay in the file."""

    def inject() -> None:
        unsynced()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return inject


def unsynced() -> None:
    """Break nothing; only do not wait for the disk."""
    os.fsync = lambda fd: None


# Calls of the training code.


def before_call(owner: Any, name: str, number: int, action: Callable[..., Any]) -> Injection:
    """Call `action` with the same arguments before call number `number` (from 1) of a function.

    If `action` returns a value, the function is not called, and the value is returned.
    """

    def inject() -> None:
        real, numbers = getattr(owner, name), itertools.count(1)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            result = None
            if next(numbers) == number:
                result = action(*arguments, **options)
            return real(*arguments, **options) if result is None else result

        setattr(owner, name, wrapped)

    return inject


def in_step(step: int, player: str, action: Callable[[Player, Any], Any]) -> Injection:
    """Call `action(player, collector)` before the update of G or D in a step (from 1).

    At that moment the gradients of this rank are there. Results are as in `before_call`.
    """

    def arm(*_: object) -> None:
        real = Player.step

        def once(self: Player, collector: Any) -> Any:
            result = None
            if self.name == player:
                Player.step = real  # type: ignore[method-assign]
                result = action(self, collector)
            return real(self, collector) if result is None else result

        Player.step = once  # type: ignore[method-assign]

    return before_call(Trainer, "step", step, arm)


def not_a_number(value: float, index: int) -> Callable[[Player, Any], None]:
    """An action for `in_step`: put `value` into one element of the gradients."""

    def action(player: Player, _: object) -> None:
        gradients = [p.grad for p in player.parameters if p.grad is not None]
        gradient = gradients[index % len(gradients)]
        gradient[(0,) * gradient.ndim] = value

    return action


def leave_out(player: Player, _: object) -> torch.Tensor:
    """An action for `in_step`: the update does not happen."""
    return torch.tensor(False)


def kill_peers(*_: object) -> None:
    """An action: kill the ranks that this process has started."""
    for process in multiprocessing.active_children():
        process.kill()
        process.join()


def kill_worker_at(position: int) -> Injection:
    """Kill the loader process that reads the picture at this position of training."""
    real = TrainingDraws.__getitem__

    def read(self: TrainingDraws, wanted: int) -> dict[str, Any]:
        if wanted == position and torch.utils.data.get_worker_info() is not None:
            kill()
        return real(self, wanted)

    def inject() -> None:
        TrainingDraws.__getitem__ = read  # type: ignore[method-assign]

    return inject


def wait_for(file: Path) -> Callable[..., None]:
    """An action: wait until a file exists. `FILE.NUMBER` says that this process is waiting."""

    def action(*_: object) -> None:
        file.with_suffix(f".{os.getpid()}").touch()
        while not file.exists():
            time.sleep(0.01)

    return action


# The machine.


def jumping_clock(call: int, seconds: float) -> Injection:
    """From the `call`-th reading on, the clock of the day is `seconds` ahead (or behind, below 0).

    The monotonic clock jumps forward by as much, as it does when a virtual machine was paused.
    """

    def inject() -> None:
        numbers = itertools.count(1)

        def jumped(real: Callable[[], float], by: float) -> Callable[[], float]:
            return lambda: real() + (by if next(numbers) >= call else 0.0)

        time.time = jumped(time.time, seconds)
        time.monotonic = jumped(time.monotonic, abs(seconds))

    return inject


def private_mounts() -> None:
    """Give this process mounts that no other process sees and that end with it.

    Raises OSError where the system does not allow it.
    """
    libc, new_mounts = ctypes.CDLL(None, use_errno=True), 0x00020000  # CLONE_NEWNS
    if libc.unshare(new_mounts):
        raise OSError(ctypes.get_errno(), "unshare")
    call("mount", "--make-rprivate", "/")


def call(*words: object) -> None:
    """Call a command of the system. Raises OSError where it fails."""
    done = subprocess.run(list(map(str, words)), capture_output=True, check=False)
    if done.returncode:
        raise OSError(done.returncode, done.stderr.decode(errors="replace").strip())


def read_only(folder: Path) -> Injection:
    """Let `folder` be read-only for the process, also if it is root's."""

    def inject() -> None:
        private_mounts()
        call("mount", "--bind", folder, folder)
        call("mount", "-o", "remount,bind,ro", folder)

    return inject


def changes_in(note: Path, pattern: str = "") -> list[str]:
    """The changes that `noted_changes` has written, with names that match `pattern`."""
    lines = note.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.search(pattern, line.partition(" ")[2])]


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file, whose lines must all be whole."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
