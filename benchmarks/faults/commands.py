"""Start a command of the repository in a process with faults.

The process is forked from this one, which has imported torch already, so a command starts at once.
The process leads a new session. A process of that session that outlives the command counts as a
hang.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300  # a command that runs longer hangs
LINGER_S = 30  # how long processes of a command may outlive it

Injection = Callable[[], object]  # called in the new process before the command
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Done:
    """A finished command.

    code: exit code; minus the number of the signal that ended it. output: stdout and stderr.
    hung: whether it or a process that it started had to be ended.
    """

    code: int
    output: str
    hung: bool

    @property
    def killed(self) -> bool:
        return self.code in (-signal.SIGKILL, -signal.SIGXFSZ)

    def faults(self, expected: str) -> list[str]:
        """What is wrong with the end of the command.

        expected: 'killed', 'finished', or 'refused: TEXT' for exit code 1 and one line that begins
        with 'Error:' and contains TEXT.
        """
        faults = ["a process hung"] * self.hung
        shown = f"exit code {self.code}: {self.output[-600:]}"
        if expected == "killed":
            return faults + [f"was not killed, {shown}"] * (not self.killed)
        if "Traceback" in self.output:
            faults.append(f"a traceback, {shown}")
        if expected == "finished":
            return faults + [f"did not finish, {shown}"] * (self.code != 0)
        text = expected.removeprefix("refused: ")
        errors = [line for line in self.output.splitlines() if line.startswith("Error: ")]
        if self.code != 1 or len(errors) != 1 or text not in errors[0]:
            faults.append(f"was not refused with {text!r}, {shown}")
        return faults


class Command:
    """A started command: the first word is a script, or a module with a function `main`."""

    def __init__(self, words: Sequence[object], output: Path, *injections: Injection) -> None:
        self.output = output
        output.write_bytes(b"")
        texts = [str(word) for word in words]
        self.process = _FORK.Process(target=_run, args=(texts, output, injections))
        self.process.start()

    def wait(self) -> Done:
        """Wait for the end of the command and of every process that it started."""
        self.process.join(PATIENCE_S)
        hung = self.process.exitcode is None
        if hung:
            self.process.kill()
            self.process.join()
        deadline = time.monotonic() + LINGER_S
        while (left := _session(self.process.pid or 0)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in left:
            hung = True
            os.kill(process, signal.SIGKILL)
        code = self.process.exitcode
        assert code is not None
        return Done(code, self.output.read_text(encoding="utf-8", errors="replace"), hung)


def run(words: Sequence[object], output: Path, *injections: Injection) -> Done:
    """Run a command to its end. output: the file that gets what it prints."""
    return Command(words, output, *injections).wait()


def _run(words: list[str], output: Path, injections: Sequence[Injection]) -> None:
    os.setsid()
    with open(output, "ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(ROOT)
    sys.argv = words
    for inject in injections:
        inject()
    if words[0].endswith(".py"):
        runpy.run_path(words[0], run_name="__main__")
    else:
        importlib.import_module(words[0]).main()


def _session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(int(folder.name))
    return found
