"""Starts commands on the stand-in GPU, each as a process forked from one that has imported PyTorch.

`Server` is the side of the tests, `serve` the side of the process that forks.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass
class Command:
    """A started command; its output goes to two files. `returncode` is known after `wait`."""

    server: Server
    pid: int
    files: tuple[Path, Path]
    returncode: int | None = None

    @property
    def stdout(self) -> str:
        return self.files[0].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self.files[1].read_text(encoding="utf-8")

    def send_signal(self, number: signal.Signals) -> None:
        """To the command and to the processes that it started."""
        os.killpg(self.pid, number)

    def wait(self) -> Command:
        if self.returncode is None:
            self.returncode = self.server.ask({"wait": self.pid})
        return self

    def succeed(self) -> Command:
        assert self.wait().returncode == 0, self.stdout + self.stderr
        return self


class Server:
    """Starts commands from the repository's root; `folder` keeps what they print."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), "--serve"], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def start(self, *arguments: object, **variables: str) -> Command:
        """For example `start("train.py", "--outdir", folder, LOCAL_RANK="0")`."""
        self.count += 1
        files = (self.folder / f"{self.count}-out.txt", self.folder / f"{self.count}-err.txt")
        pid = self.ask({"start": list(map(str, arguments)), "variables": variables,
                        "files": list(map(str, files))})
        return Command(self, pid, files)

    def run(self, *arguments: object, **variables: str) -> Command:
        return self.start(*arguments, **variables).wait()

    def ask(self, order: dict) -> int:
        print(json.dumps(order), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, "the process that starts commands has ended; its stderr says why"
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


def serve() -> None:
    """Orders come on stdin, one answer a line goes to stdout. A child returns from here when its
    command has ended."""
    import metrics.runner  # noqa: F401
    import training.launch  # noqa: F401
    from networks.text_encoders import load_encoder

    load_encoder("small")  # for the modules that it imports
    gc.freeze()  # else a collection in a child would write to all it shares, and so copy it
    for line in sys.stdin:
        order = json.loads(line)
        wait = order.get("wait")
        answer = os.fork() if wait is None else os.waitstatus_to_exitcode(os.waitpid(wait, 0)[1])
        if answer == 0 and "start" in order:
            _become(order)
            return
        print(json.dumps(answer), flush=True)


def _become(order: dict) -> None:
    os.setsid()
    for number, path in enumerate(order["files"], start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(order["variables"])
    run_script(order["start"])


def run_script(arguments: list[str]) -> None:
    """A script and its arguments, as if started by `python script.py ...`."""
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
