"""Run commands in processes that start without delay, because torch is imported already.

`python train.py` spends seconds on imports. Tests of other behaviour need not repeat them: this
module forks the command from a process that has made the imports. The command has separate output,
exit code and global state. Tests of the imports start a real process instead.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[2]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pytest", "tests.commands.preloaded"])
# The process that serves all tests starts in this environment, not in one that a test changed.
_ENVIRONMENT = dict(os.environ)


class RunningCommand:
    """A started command. Its output goes to files, which can be read while it runs."""

    def __init__(self, words: list[str], variables: Mapping[str, str]) -> None:
        self.words, self.folder = words, tempfile.TemporaryDirectory()
        self.files = Path(self.folder.name, "out"), Path(self.folder.name, "err")
        for file in self.files:
            file.touch()
        with mock.patch.dict(os.environ, _ENVIRONMENT, clear=True):
            multiprocessing.forkserver.ensure_running()
        self.process: BaseProcess = _CONTEXT.Process(
            target=_run, args=(words, dict(os.environ) | dict(variables), *self.files)
        )
        self.process.start()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the command and to the processes that it started."""
        assert self.process.pid is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End the command and the processes that it started."""
        with contextlib.suppress(
            ProcessLookupError
        ):  # the command has not created its process group yet
            self.send_signal(signal.SIGKILL)
        self.process.kill()
        self.process.join()

    def wait(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """The result, as of `subprocess.run([sys.executable, *words], cwd=ROOT)` with text output.

        After `subprocess.TimeoutExpired`, the command and its processes have been killed.
        """
        self.process.join(timeout)
        late = self.process.exitcode is None
        if late:
            self.kill()
        output, errors = (file.read_text() for file in self.files)
        self.folder.cleanup()
        if late:
            raise subprocess.TimeoutExpired(self.words, timeout, output, errors)
        return subprocess.CompletedProcess(self.words, self.process.exitcode, output, errors)


def start_command(*arguments: object, **variables: str) -> RunningCommand:
    """Start a script of the repository, the first argument, with the others as its command line
    with the environment variables of now and these."""
    return RunningCommand([str(argument) for argument in arguments], variables)


def start_ranks(*arguments: object, count: int = 2, **variables: str) -> list[RunningCommand]:
    """Start a script `count` times, as the ranks of one process group, as torchrun would."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    group = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return [
        start_command(*arguments, RANK=str(rank), LOCAL_RANK=str(rank), **group, **variables)
        for rank in range(count)
    ]


def run_command(
    *arguments: object,
    timeout: float = 300,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its result."""
    return start_command(*arguments, **variables).wait(timeout)


def succeed(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must not fail, and return its result."""
    done = run_command(*arguments, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _run(words: list[str], variables: dict[str, str], out: Path, err: Path) -> None:
    os.setsid()  # a new process group, so that signals reach the workers, too
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
