"""Run compute-sanitizer on the cases of `benchmarks.gpu_check.kernels`.

`python -m benchmarks.gpu_check.sanitize COMPUTE_SANITIZER --tool racecheck ... --device cuda`

Where the process ends before the last case, the case that ended it is named in a line that begins
with `NOT_CHECKED`, and a new process continues with the next case. On an H100, racecheck was seen
to end in a fault of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.gpu_check.findings import ALL_DONE, LINE_OF_CASE, NOT_CHECKED

CASE = re.compile(LINE_OF_CASE.format(r"(\d+)", "(.+)"))


def sanitize(command: Sequence[str]) -> int:
    """Run `command --first N` until all cases have had their turn, and print its output.

    Returns the exit code of the first process that left with one, else 0. Stops where a process
    begins no case: then the sanitizer does not work here.
    """
    # Kernels run one after the other, so that an error is reported at the launch that caused it.
    environment = os.environ | {"CUDA_LAUNCH_BLOCKING": "1"}
    first, failed = 0, 0
    while True:
        process = subprocess.Popen(
            [*command, "--first", str(first)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        last, done = None, False
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last, done = CASE.match(line) or last, done or line.strip() == ALL_DONE
        code = process.wait()
        failed = failed or code
        if done or last is None:
            return failed
        print(f"{NOT_CHECKED}{last[2]}: exit code {code}", flush=True)
        first = int(last[1]) + 1


if __name__ == "__main__":
    sys.exit(sanitize(sys.argv[1:]))
