"""Commands in processes that start at once, because torch has been imported there already.

`python train.py` spends seconds on imports. A test of what the command does need not repeat them:
here the command is forked off a process that has made them. It has its own output, exit code and
global state. Tests of the imports themselves start a real process instead.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
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
# A test may change the environment; the process that serves all tests must not be started in that.
_ENVIRONMENT = dict(os.environ)


class RunningCommand:
    """A started command. Its output lies in files, so it can be read while the command runs."""

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
        """To the command and to the processes that it started."""
        assert self.process.pid is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End the command and the processes that it started."""
        with contextlib.suppress(ProcessLookupError):  # it has just begun and leads no group yet
            self.send_signal(signal.SIGKILL)
        self.process.kill()
        self.process.join()

    def wait(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """The result of `subprocess.run([sys.executable, *words], cwd=ROOT)`, text captured.

        Raises `subprocess.TimeoutExpired`, after which the command and what it started are dead.
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


def run_command(
    *arguments: object,
    timeout: float = 300,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """`start_command`, and its result."""
    return start_command(*arguments, **variables).wait(timeout)


def succeed(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """The result of a command that must not fail."""
    done = run_command(*arguments, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _run(words: list[str], variables: dict[str, str], out: Path, err: Path) -> None:
    os.setsid()  # a group of its own, so that a signal reaches its workers too
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
