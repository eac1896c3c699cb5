"""Train a run for a given processor time, for `benchmarks.recipe_trials`.

train.py runs as a process with one thread on the CPU. Its processor time (user and system time of
the process and its loaders) is read from /proc while it runs, and from the kernel's accounting at
its end. When the time is used, the run must end with a snapshot, and a falling learning rate
(`lr_decay`) must have reached its end. train.py needs `--kimg` for both. Therefore a run is paused
(SIGTERM, the state is saved) and resumed with a length that is planned from its speed so far. The
speed is the number of images per processor second in the later half of the time so far; with
`start_resolution`, only ticks at the final side count as soon as there are some. The pauses are:

- at the share of the time at which the learning rate begins to fall, between 5 % and 90 %;
- half-way between this share and 90 %, and at 90 %, so that a change of speed hardly changes the
  time of the end.

Before the first pause the learning rate is constant; at each later pause it jumps by the error of
the plan before. Each pause costs a start of train.py, about 6 processor seconds, which count as
used. `start_kimg` is not changed, so a trial with a start side should have finished these images by
half of the time.

With the recipe `debug`, runs of 0.4 and 0.5 minutes took 15 to 28 % more than the given time; a run
of `eidgan-openmoji32` of 3 minutes took 4.8 % (9 s) more, about one start of train.py. The table
shows the minutes that each trial took. A record beside the run folder holds the processor seconds.
It is written atomically at every tick, so that an interrupted run can be resumed.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from configs import recipe
from dnnlib.config_codec import override
from dnnlib.errors import UserError
from dnnlib.files import locked, read_json, read_json_lines, write_json
from dnnlib.ownership import json_with, refuse_foreign
from networks.text_encoders import load_encoder
from train import STOPPED
from training.checkpoint import checkpoints, read_newest
from training.config import TrainConfig
from training.launch import cached, feature_cache, open_dataset, run_folder_fault
from training.run_log import drop_records_after

ROOT = Path(__file__).parent.parent
IS_RECORD = json_with("asked", "points", "cpu_s")
POLL_S = 0.5  # between two readings of a training's processor time
KEEP_S = 5.0  # between two records without a new tick
OPEN_END = 1e6  # --kimg before the first pause; the learning rate is then constant
LAST_PAUSE = 0.9
FIXED = ("recipe", "data", "seed", "kimg", "metrics", "report_to", "device")
# Replaces the process by train.py, after a request to get SIGTERM if the parent process is killed
# (PDEATHSIG). train.py then saves its state.
_START = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); "
    "os.execv(sys.executable, [sys.executable, 'train.py', *sys.argv[1:]])"
)

Point = tuple[float, int]  # processor seconds, images


@dataclass(frozen=True)
class Trial:
    """A named recipe with changed fields. settings: FIELD=VALUE as for train.py --set."""

    name: str
    recipe: str
    settings: tuple[str, ...] = ()

    def config(self) -> TrainConfig:
        """The config that train.py will use. Raises `UserError` for a wrong recipe or field."""
        try:
            return override(recipe(self.recipe), self.settings)
        except UserError as error:
            raise UserError(f"--trial {self.name}: {error}") from None

    def prepare(self, data: str, folder: Path) -> None:
        """Check the data and encode its captions, so that this takes no time of the trainings.

        folder: where text features are cached. Raises `UserError` for faulty data.
        """
        config = replace(self.config(), data=data)
        dataset = open_dataset(config)
        if config.needs_encoder:
            cached(
                load_encoder(config.text_encoder), config, dataset, feature_cache(config, folder)
            )


def parse_trial(text: str) -> Trial:
    """The value of --trial, 'NAME=RECIPE FIELD=VALUE ...', with quotes as in a shell.

    Raises `UserError`.
    """
    try:
        first, *settings = shlex.split(text)
    except ValueError:  # the text is empty, or a quote is not closed
        first, settings = "", []
    name, _, recipe_name = first.partition("=")
    if not recipe_name or not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise UserError(
            f"--trial {text!r}: expected NAME=RECIPE and then FIELD=VALUE settings, "
            "with a NAME of letters, digits, '.', '_' and '-'"
        )
    for setting in settings:
        field = setting.partition("=")[0]
        if field in FIXED:
            raise UserError(f"--trial {name}: {field} is the same for all trials; leave it out")
    return Trial(name, recipe_name, tuple(settings))


def pauses(lr_decay: float) -> list[float]:
    """The shares of the time at which a run is paused, see above."""
    first = min(max(1 - lr_decay, 0.05), LAST_PAUSE)
    return sorted({first, (first + LAST_PAUSE) / 2, LAST_PAUSE})


def rate(points: Sequence[Point], start_images: int) -> float:
    """Images per processor second in the later half of the processor time so far.

    The time of the first `start_images` is left out if there are two points after them.
    """
    later = [point for point in points if point[1] >= start_images]
    points = later if len(later) > 1 else points
    seconds, images = points[-1]
    half = (points[0][0] + seconds) / 2
    before = next(point for point in points if point[0] >= half)
    if before[1] == images:
        before = points[0]
    return (images - before[1]) / (seconds - before[0])


def planned_images(points: Sequence[Point], budget_s: float, batch: int, start_images: int) -> int:
    """The number of images that a resumed run can see in its time, at least one batch more.

    The time of a start of train.py is subtracted. It is estimated from the first tick: its time
    minus that of its images at the current speed.
    """
    seconds, images = points[-1]
    per_s = rate(points, start_images)
    start_s = max(0.0, points[1][0] - points[1][1] / per_s)
    return images + batch * max(1, round((budget_s - seconds - start_s) * per_s / batch))


def session_cpu_s(leader: int) -> float:
    """Processor seconds of all processes of a session and of their ended children.

    leader: process id of the session's leader.
    """
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process may have ended
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == leader:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def saves_at_sigterm(process: int) -> bool:
    """Whether a process has a handler for SIGTERM. train.py has one as soon as it trains."""
    with contextlib.suppress(OSError):  # the process may have ended
        for line in Path(f"/proc/{process}/status").read_text(errors="replace").splitlines():
            name, _, mask = line.partition(":")
            if name == "SigCgt":
                return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)
    return False


class TrialRun:
    """A trial with a seed: the run folder NAME-seedN of train.py and its record NAME-seedN.json.

    points: (processor seconds, images) at the start, at each tick and at each pause.
    cpu_s: processor seconds so far.
    lost_s: processor seconds of images that a killed process did not save.
    """

    def __init__(self, trial: Trial, seed: int, minutes: float, data: str, outdir: Path) -> None:
        self.trial, self.seed, self.data, self.budget_s = trial, seed, data, minutes * 60
        self.name = f"{trial.name}-seed{seed}"
        self.folder, self.path = outdir / self.name, outdir / f"{self.name}.json"
        self.asked = {
            "recipe": trial.recipe,
            "settings": list(trial.settings),
            "seed": seed,
            "cpu_minutes": minutes,
        }
        self.points: list[Point] = [(0.0, 0)]
        self.cpu_s, self.lost_s, self.done = 0.0, 0.0, False
        self.kept_at = 0.0

    def open(self) -> None:
        """Read the record, if there is one.

        Raises `UserError` for files of other programs, for a run with other settings, and for a run
        without a record, whose processor time is not known.
        """
        refuse_foreign(self.path, IS_RECORD)
        refuse_foreign(self.folder, run_folder_fault)
        if not self.path.exists():
            if checkpoints(self.folder):
                raise UserError(
                    f"{self.folder} holds a run without {self.path.name}, so its "
                    "processor time is not known; move it away or change --outdir"
                )
            return
        record = read_json(self.path)
        for name, value in self.asked.items():
            if record["asked"].get(name) != value:
                raise UserError(
                    f"{self.path}: its run has {name} {record['asked'].get(name)}, now "
                    f"{value} is asked; rename the trial, or change --outdir"
                )
        self.points = [(seconds, images) for seconds, images in record["points"]]
        self.cpu_s, self.lost_s, self.done = record["cpu_s"], record["lost_s"], record["done"]

    def keep(self) -> None:
        """Write the record."""
        self.kept_at = time.monotonic()
        write_json(
            self.path,
            {
                "asked": self.asked,
                "cpu_s": self.cpu_s,
                "lost_s": self.lost_s,
                "done": self.done,
                "points": self.points,
            },
            ours=IS_RECORD,
        )

    def train(self, stop: threading.Event) -> None:
        """Train until the processor time is used, or until `stop` is set. Raises `UserError`."""
        config = self.trial.config()
        start_images = round(config.start_kimg * 1000) if config.start_resolution else 0
        ends = [share * self.budget_s for share in pauses(config.lr_decay)]
        while not self.done and not stop.is_set():
            self.settle()
            ahead = [end for end in ends if end > self.cpu_s]
            kimg = (
                OPEN_END
                if len(ahead) == len(ends)
                else planned_images(self.points, self.budget_s, config.batch, start_images) / 1000
            )
            code, last_line = self.leg(kimg, ahead[0] if ahead else math.inf, stop)
            self.done = code == 0
            self.keep()
            if not (stop.is_set() and code == -signal.SIGTERM) and code not in (0, STOPPED):
                reason = last_line or f"train.py ended with exit code {code}"
                raise UserError(f"{self.name}: {reason}")

    def settle(self) -> None:
        """Go back to the newest saved state. The time of images after it counts as lost."""
        images = 0
        if self.folder.exists():
            with locked(self.folder):
                newest = read_newest(self.folder)
                images = newest[1]["progress"]["images"] if newest else 0
                drop_records_after(self.folder / "stats.jsonl", images)
        self.points = [point for point in self.points if point[1] <= images]
        # If this process was killed, train.py may have saved a state that has no point yet.
        if images > self.points[-1][1]:
            self.points.append((self.cpu_s, images))
        self.lost_s = round(self.lost_s + self.cpu_s - self.points[-1][0], 2)
        self.cpu_s = self.points[-1][0]
        self.keep()

    def leg(self, kimg: float, until_s: float, stop: threading.Event) -> tuple[int, str]:
        """Run train.py once. Returns its exit code and the last line that it printed.

        It gets SIGTERM, on which it saves its state and exits, when `stop` is set or the processor
        time reaches `until_s`; in the latter case not before it trains.
        """
        before, signalled = self.cpu_s, False
        with tempfile.TemporaryFile("w+") as output:
            process = self.start(kimg, output)
            try:
                while True:
                    ended, status, usage = os.wait4(process.pid, os.WNOHANG)
                    if ended:
                        break
                    self.observe(before + session_cpu_s(process.pid))
                    late = self.cpu_s >= until_s and saves_at_sigterm(process.pid)
                    if not signalled and (late or stop.is_set()):
                        os.kill(process.pid, signal.SIGTERM)
                        signalled = True
                    time.sleep(POLL_S)
            except BaseException:  # such as a full disk: do not leave the training running
                os.kill(process.pid, signal.SIGTERM)
                process.wait()
                raise
            process.returncode = code = os.waitstatus_to_exitcode(status)
            self.observe(max(self.cpu_s, before + usage.ru_utime + usage.ru_stime))
            output.seek(0)
            last_line = (output.read().strip().splitlines() or [""])[-1]
        if code in (0, STOPPED):
            # Replace the point of the last tick by one that includes the time of saving the state.
            if self.points[-1][1] == self.images():
                self.points.pop()
            self.points.append((self.cpu_s, self.images()))
        if code == STOPPED and not signalled:
            raise UserError(
                f"{self.name}: another process stopped its training; the same command goes on"
            )
        return code, last_line

    def start(self, kimg: float, output: IO[str]) -> subprocess.Popen:
        """Start train.py as the leader of a new session. output: file of what it prints."""
        words = ["--outdir", str(self.folder.resolve()), "--recipe", self.trial.recipe]
        words += ["--data", self.data, "--seed", str(self.seed), "--kimg", repr(kimg)]
        words += "--metrics none --report-to none --device cpu --ranks 1".split()
        words += [word for setting in self.trial.settings for word in ("--set", setting)]
        return subprocess.Popen(
            [sys.executable, "-c", _START, *words],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def images(self) -> int:
        """The number of images at the last tick."""
        ticks = read_json_lines(self.folder / "stats.jsonl")
        return ticks[-1]["images"] if ticks else 0

    def observe(self, cpu_s: float) -> None:
        """Store the processor seconds, and a point if there is a new tick; write the record."""
        self.cpu_s, images = round(cpu_s, 2), self.images()
        if images > self.points[-1][1]:
            self.points.append((self.cpu_s, images))
        elif time.monotonic() - self.kept_at < KEEP_S:
            return
        self.keep()

    def row(self) -> dict[str, Any]:
        """The entries of the benchmark's record on this training."""
        return (
            {"trial": self.trial.name}
            | self.asked
            | {
                "kimg": self.points[-1][1] / 1000,
                "cpu_minutes_used": self.cpu_s / 60,
                "cpu_minutes_lost": self.lost_s / 60,
            }
        )
