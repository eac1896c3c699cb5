"""Commands in processes of their own that start at once: they are forked off a process that has imported torch already.

`python train.py` spends seconds on imports, which a test of what the command does need not repeat. A forked command has its
own output, exit code and global state; what it does before its imports, and how it takes signals, is for real processes to show.
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
_CONTEXT.set_forkserver_preload(["pytest", "torch", "torch.utils.tensorboard", "timm", "scipy.linalg", "training.launch",
                                 "metrics.runner", "metrics.detectors.lite2", "networks.sampling"])


def run_command(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run([sys.executable, *arguments], cwd=ROOT)` with text output; the first argument is the script."""
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
        return subprocess.CompletedProcess(words, process.exitcode, out.read_text(), err.read_text())


def _run(words: list[str], out: Path, err: Path) -> None:
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(ROOT)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
