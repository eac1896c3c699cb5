"""Commands in processes that start at once, because torch has been imported there already.

`python train.py` spends seconds on imports. A test of what the command does need not repeat them:
here the command is forked off a process that has made them. It has its own output, exit code and
global state. Tests of the imports themselves, and of signals, start a real process instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([
    "pytest", "torch", "torch.utils.tensorboard", "timm", "scipy.linalg", "training.launch",
    "metrics.runner", "metrics.detectors.lite2", "networks.sampling"])


def run_command(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository, the first argument, with the others as its command line.

    The result is that of `subprocess.run([sys.executable, *arguments], cwd=ROOT)`, text captured.
    """
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _CONTEXT.Process(target=_run, args=(words, out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout, out.read_text(), err.read_text())
        output, errors = out.read_text(), err.read_text()
        return subprocess.CompletedProcess(words, process.exitcode, output, errors)


def _run(words: list[str], out: Path, err: Path) -> None:
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(ROOT)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
