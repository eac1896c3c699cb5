"""`make gpu-check`: plugins, gpu tests, compute-sanitizer and benchmarks on a machine with a GPU, in under 8 minutes.

Needs PyTorch, the CUDA toolkit, ninja, pytest and click; neither network nor text encoders. Writes
benchmarks/results/<date>-<gpu>-*.json and ends with a table of what passed.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DEADLINE_S = 480
# What the sanitizer runs: every kernel, on pictures of a few tiles.
SANITIZED = "test_decode_and_its_gradients and 37 or test_render and 33 or test_modulated_linear_and_its_gradients and 352"
MEASURED = {  # arguments, seconds that the step may take
    "ops": (["--resolutions", "256,1024", "--batches", "1,8", "--dtypes", "bf16", "--seconds", "0.5"], 75),
    "generator": (["--resolutions", "256,1024", "--batches", "1,8", "--dtypes", "bf16", "--seconds", "1",
                   "--variants", "eager,compile,ours,graph"], 100),
    "generator-large": (["--resolutions", "512,2048,4096", "--batches", "1,4", "--dtypes", "bf16", "--seconds", "1",
                         "--variants", "eager,ours"], 45),
    "training_step": (["--resolutions", "256", "--batches", "8,32", "--dtypes", "bf16", "--seconds", "2"], 75),
}


class Checks:
    """Runs commands one after the other and remembers how each ended."""

    def __init__(self) -> None:
        self.start, self.outcomes = time.monotonic(), []

    def run(self, name: str, *command: str, limit_s: float) -> None:
        left = DEADLINE_S - (time.monotonic() - self.start)
        print(f"== {name}: {' '.join(command)}", flush=True)
        begin = time.monotonic()
        if left < 10:
            self.outcomes.append((name, "NOT RUN: no time left", 0.0))
            return
        try:
            code = subprocess.run(command, cwd=ROOT, env=os.environ | {"EIDGAN_OPS": ""}, check=False, timeout=min(left, limit_s)).returncode
            outcome = "passed" if code == 0 else f"FAILED (exit code {code})"
        except subprocess.TimeoutExpired:
            outcome = f"STOPPED after {min(left, limit_s):.0f} s"
        self.outcomes.append((name, outcome, time.monotonic() - begin))

    def report(self) -> bool:
        for name, outcome, seconds in self.outcomes:
            print(f"{name:<26}{outcome:<34}{seconds:6.0f} s")
        return all(outcome == "passed" for _, outcome, _ in self.outcomes)


def find_sanitizer() -> str | None:
    from torch_utils.ops.build import BuildError, cuda_home

    found = shutil.which("compute-sanitizer")
    try:
        beside = cuda_home() / "bin/compute-sanitizer"
    except BuildError:
        return found
    return found or (str(beside) if beside.exists() else None)


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("Error: make gpu-check needs a CUDA device and PyTorch sees none; make test runs without")
    slug = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
    prefix = f"{datetime.date.today().isoformat()}-{slug}"
    python, checks = sys.executable, Checks()
    pytest = [python, "-m", "pytest", "tests/torch_utils/test_ops_gpu.py"]
    checks.run("doctor", python, "doctor.py", limit_s=60)
    checks.run("plugins", python, "-m", "torch_utils.ops.build", limit_s=180)
    checks.run("gpu tests", *pytest, limit_s=150)
    sanitizer = find_sanitizer()
    for tool in ("memcheck", "racecheck"):
        if sanitizer is None:
            checks.outcomes.append((f"sanitizer {tool}", "NOT RUN: no compute-sanitizer", 0.0))
            continue
        checks.run(f"sanitizer {tool}", sanitizer, "--tool", tool, "--error-exitcode", "9", *pytest, "-k", SANITIZED, limit_s=45)
    for name, (arguments, limit_s) in MEASURED.items():
        checks.run(name, python, "-m", f"benchmarks.{name.split('-')[0]}", "--device", "cuda", *arguments,
                   "--json", str(RESULTS / f"{prefix}-{name}.json"), limit_s=limit_s)
    sys.exit(0 if checks.report() else 1)


if __name__ == "__main__":
    main()
