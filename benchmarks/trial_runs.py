"""One training that gets a number of processor minutes, for `benchmarks.recipe_trials`.

train.py runs as a process with one thread on the CPU. Its processor time (user and system, with its
loader processes) is read from /proc while it runs, and from the kernel's account at its end. Where
the time ends, the run must end with a snapshot, and a learning rate that falls (`lr_decay`) must
have fallen. Both need `--kimg` beforehand, so a run pauses (SIGTERM, the state is saved) and goes
on with a length that is planned from the images per processor second of the later half so far
(with `start_resolution`: so far at the final side, as soon as there are ticks of it):

- first at the share of the minutes where the learning rate begins to fall, within 5 % and 90 %;
- then half-way to 90 % and at 90 %, so that a changed speed moves the end by little.

Before the first pause the learning rate does not fall; at the others it steps by what the plan was
off. Each pause costs a start of train.py, some 6 processor seconds, which count. `start_kimg` is
left as it is set, so a trial with a start side should have shown those images by half-time.

Of the recipe `debug`, runs of 0.4 and 0.5 minutes took 15 to 28 % more than they were given, and
one of `eidgan-openmoji32` of 3 minutes 4.8 % (9 s) more: about a start of train.py. The table gives
the minutes that each trial took. The record beside the run holds the processor seconds, written
atomically at every tick, so an interrupted run goes on.
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
POLL_S, KEEP_S = 0.5, 5.0  # between looks at a training, and between records without a tick
OPEN_END = 1e6  # kimg of a training whose end is not planned yet: its learning rate does not fall
LAST_PAUSE = 0.9
FIXED = ("recipe", "data", "seed", "kimg", "metrics", "report_to", "device")
# Become train.py, with a signal to save and leave should the parent process be killed (PDEATHSIG).
_START = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); "
    "os.execv(sys.executable, [sys.executable, 'train.py', *sys.argv[1:]])"
)

Point = tuple[float, int]  # processor seconds, images


@dataclass(frozen=True)
class Trial:
    """A recipe with changed fields, under a name. settings: FIELD=VALUE as for train.py --set."""

    name: str
    recipe: str
    settings: tuple[str, ...] = ()

    def config(self) -> TrainConfig:
        """What train.py will make of it. Raises `UserError`."""
        try:
            return override(recipe(self.recipe), self.settings)
        except UserError as error:
            raise UserError(f"--trial {self.name}: {error}") from None

    def prepare(self, data: str, folder: Path) -> None:
        """Check the data, and encode its captions, so that no training pays for that.

        Raises `UserError`.
        """
        config = replace(self.config(), data=data)
        dataset = open_dataset(config)
        if config.needs_encoder:
            cached(
                load_encoder(config.text_encoder), config, dataset, feature_cache(config, folder)
            )


def parse_trial(text: str) -> Trial:
    """'NAME=RECIPE FIELD=VALUE ...'; quotes as in a shell. Raises `UserError`."""
    try:
        first, *settings = shlex.split(text)
    except ValueError:  # nothing, or a quote without its end
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
    """Shares of the minutes at which the end of a run is planned."""
    first = min(max(1 - lr_decay, 0.05), LAST_PAUSE)
    return sorted({first, (first + LAST_PAUSE) / 2, LAST_PAUSE})


def rate(points: Sequence[Point], start_images: int) -> float:
    """Images per processor second of the later half of the processor time so far.

    Without that of the first `start_images`, where there are two points beyond them.
    """
    beyond = [point for point in points if point[1] >= start_images]
    points = beyond if len(beyond) > 1 else points
    seconds, images = points[-1]
    half = (points[0][0] + seconds) / 2
    before = next(point for point in points if point[0] >= half)
    if before[1] == images:
        before = points[0]
    return (images - before[1]) / (seconds - before[0])


def planned_images(points: Sequence[Point], budget_s: float, batch: int, start_images: int) -> int:
    """Images at which a run that goes on now ends with its processor time: at least a batch more.

    The next start takes as long as the first: the time of the first tick beyond that of its images.
    """
    seconds, images = points[-1]
    per_s = rate(points, start_images)
    start_s = max(0.0, points[1][0] - points[1][1] / per_s)
    return images + batch * max(1, round((budget_s - seconds - start_s) * per_s / batch))


def session_cpu_s(leader: int) -> float:
    """Processor seconds of all processes of a session, and of those that they have waited for."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == leader:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def saves_at_sigterm(process: int) -> bool:
    """Whether a process has a handler for SIGTERM yet, as train.py has once it trains."""
    with contextlib.suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{process}/status").read_text(errors="replace").splitlines():
            name, _, mask = line.partition(":")
            if name == "SigCgt":
                return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)
    return False


class TrialRun:
    """A trial with a seed: the run folder NAME-seedN of train.py, and the record NAME-seedN.json.

    points: (processor seconds, images) at the start, at each tick and at each pause; cpu_s: the
    newest processor seconds; lost_s: those spent on images that a killed process did not save.
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
        """Read the record, where there is one. Raises `UserError` for files that are not ours, for
        a run that was asked otherwise, and for one whose processor time nobody knows.
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
        kept = read_json(self.path)
        for name, value in self.asked.items():
            if kept["asked"].get(name) != value:
                raise UserError(
                    f"{self.path}: its run has {name} {kept['asked'].get(name)}, now "
                    f"{value} is asked; rename the trial, or change --outdir"
                )
        self.points = [(seconds, images) for seconds, images in kept["points"]]
        self.cpu_s, self.lost_s, self.done = kept["cpu_s"], kept["lost_s"], kept["done"]

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
            code, said = self.leg(kimg, ahead[0] if ahead else math.inf, stop)
            self.done = code == 0
            self.keep()
            if not (stop.is_set() and code == -signal.SIGTERM) and code not in (0, STOPPED):
                raise UserError(f"{self.name}: {said or f'train.py ended with exit code {code}'}")

    def settle(self) -> None:
        """Go back to what the newest saved state holds: time of images that were lost is lost too."""
        images = 0
        if self.folder.exists():
            with locked(self.folder):
                newest = read_newest(self.folder)
                images = newest[1]["progress"]["images"] if newest else 0
                drop_records_after(self.folder / "stats.jsonl", images)
        self.points = [point for point in self.points if point[1] <= images]
        if images > self.points[-1][1]:  # this process was killed, and train.py saved afterwards
            self.points.append((self.cpu_s, images))
        self.lost_s = round(self.lost_s + self.cpu_s - self.points[-1][0], 2)
        self.cpu_s = self.points[-1][0]
        self.keep()

    def leg(self, kimg: float, until_s: float, stop: threading.Event) -> tuple[int, str]:
        """One process of train.py -> its exit code and last line. It is asked to save and leave
        when the processor time reaches `until_s`, but not before it trains, or when `stop` is set.
        """
        before, asked = self.cpu_s, False
        with tempfile.TemporaryFile("w+") as output:
            process = self.start(kimg, output)
            try:
                while True:
                    ended, status, usage = os.wait4(process.pid, os.WNOHANG)
                    if ended:
                        break
                    self.observe(before + session_cpu_s(process.pid))
                    late = self.cpu_s >= until_s and saves_at_sigterm(process.pid)
                    if not asked and (late or stop.is_set()):
                        os.kill(process.pid, signal.SIGTERM)
                        asked = True
                    time.sleep(POLL_S)
            except BaseException:  # the disk is full, say: the training must not go on alone
                os.kill(process.pid, signal.SIGTERM)
                process.wait()
                raise
            process.returncode = code = os.waitstatus_to_exitcode(status)
            self.observe(max(self.cpu_s, before + usage.ru_utime + usage.ru_stime))
            output.seek(0)
            said = (output.read().strip().splitlines() or [""])[-1]
        if code in (0, STOPPED):
            if self.points[-1][1] == self.images():  # of the last tick, before the state was saved
                self.points.pop()
            self.points.append((self.cpu_s, self.images()))
        if code == STOPPED and not asked:
            raise UserError(
                f"{self.name}: somebody has stopped its training; the same command goes on"
            )
        return code, said

    def start(self, kimg: float, output: IO[str]) -> subprocess.Popen:
        words = [
            "--outdir",
            str(self.folder.resolve()),
            "--recipe",
            self.trial.recipe,
            "--data",
            self.data,
            "--seed",
            str(self.seed),
            "--kimg",
            repr(kimg),
            "--metrics",
            "none",
            "--report-to",
            "none",
            "--device",
            "cpu",
            "--ranks",
            "1",
        ]
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
        """Of the last tick."""
        ticks = read_json_lines(self.folder / "stats.jsonl")
        return ticks[-1]["images"] if ticks else 0

    def observe(self, cpu_s: float) -> None:
        """Note the processor seconds, and a point where there is a new tick."""
        self.cpu_s, images = round(cpu_s, 2), self.images()
        if images > self.points[-1][1]:
            self.points.append((self.cpu_s, images))
        elif time.monotonic() - self.kept_at < KEEP_S:
            return
        self.keep()

    def row(self) -> dict[str, Any]:
        """What the record of the benchmark says of the training."""
        return (
            {"trial": self.trial.name}
            | self.asked
            | {
                "kimg": self.points[-1][1] / 1000,
                "cpu_minutes_used": self.cpu_s / 60,
                "cpu_minutes_lost": self.lost_s / 60,
            }
        )
