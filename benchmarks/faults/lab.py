"""The place of the experiments: a tiny data set, a run to break, and comparisons of files.

All runs start at a checkpoint at 984 images: a state after one step whose clock was set there. So
within six steps of 8 images the names of the checkpoints change from 000000 to 000001.
"""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from benchmarks.faults.commands import Command, Done
from benchmarks.faults.injections import Injection, call, json_lines, noted_changes, unsynced
from training.checkpoint import checkpoints, refuse_damage

FIRST, BATCH, STEPS = 984, 8, 6  # images before the runs, images of a step, steps of a run
PAGE = 4096  # bytes, of which a tmpfs has a whole number
KIMG = (FIRST + BATCH * STEPS) / 1000
TIMES = {"elapsed_s", "sec_per_kimg", "images_per_s", "eta_s", "cpu_gib", "gpu_gib"}


class SkippedFault(Exception):
    """This machine does not allow the fault; the text says why."""


class Lab:
    """Runs commands below `folder`. mounts: whether this process may mount file systems."""

    def __init__(self, folder: Path, mounts: bool) -> None:
        self.folder, self.mounts, self.num_places, self.num_runs = folder, mounts, 0, 0
        self.data = folder / "data.zip"
        self.source = folder / "pictures"
        self.log = folder / "output"
        self.log.mkdir()
        _draw_pictures(self.source)
        words = ("dataset_tool.py", "folder", "--source", self.source, "--dest", self.data)
        self._prepare(*words, "--resolution", "32x32", "--test-share", 0.4)

    def place(self) -> Path:
        """The path of a new folder, which is not made."""
        self.num_places += 1
        return self.folder / "places" / str(self.num_places)

    def start(self, words: list[object], *injections: Injection) -> Command:
        self.num_runs += 1
        return Command(words, self.log / str(self.num_runs), unsynced, *injections)

    def run(self, words: list[object], *injections: Injection) -> Done:
        return self.start(words, *injections).wait()

    def _prepare(self, *words: object, inject: Injection = unsynced) -> None:
        done = self.run(list(words), inject)
        if faults := done.faults("finished"):
            raise RuntimeError(f"without any fault, {words}: {faults}")

    def train(self, folder: Path, *flags: object) -> list[object]:
        """The command of a run, with a tick a step, a snapshot and many checkpoints."""
        words: list[object] = ["train.py", "--outdir", folder, "--recipe", "debug"]
        words += ["--data", self.data, "--report-to", "none", "--metrics", "none"]
        words += ["--tick", BATCH / 1000, "--snap", 2, "--checkpoint-minutes", 1e-6]
        return [*words, "--kimg", KIMG, "--ranks", 1, *flags]

    @functools.cached_property
    def base(self) -> Path:
        """A run folder with nothing but a checkpoint at `FIRST` images."""
        young, base = self.folder / "young", self.folder / "base"
        self._prepare(*self.train(young, "--kimg", BATCH / 1000))
        state = torch.load(checkpoints(young)[0], weights_only=True)
        state["progress"] |= {"images": FIRST, "snapshot_images": -1}
        base.mkdir()
        torch.save(state, base / "training-state-000000.pt")
        return base

    def begun(self, place: Path | None = None) -> Path:
        """A copy of `base`."""
        place = place or self.place()
        shutil.copytree(self.base, place, dirs_exist_ok=True)
        return place

    @functools.cached_property
    def reference(self) -> Path:
        """The run that nothing disturbed; `notes` lists its changes of files."""
        return self._undisturbed("reference", noted=True)

    @property
    def notes(self) -> Path:
        assert self.reference
        return self.folder / "notes"

    @functools.cached_property
    def reference_of_two_ranks(self) -> Path:
        return self._undisturbed("two-ranks", "--ranks", 2)

    @functools.cached_property
    def stopped(self) -> Path:
        """A run that has reached 1008 images: its checkpoints are at 992 and 1008 images."""
        return self._undisturbed("stopped", "--kimg", 1.008)

    def _undisturbed(self, name: str, *flags: object, noted: bool = False) -> Path:
        place = self.begun(self.folder / name)
        note = noted_changes(place, self.folder / "notes") if noted else unsynced
        self._prepare(*self.train(place, *flags), inject=note)
        return place

    @property
    def network(self) -> Path:
        return self.reference / "network-snapshot-000001"

    @contextmanager
    def small_disk(self, size: int) -> Iterator[Path]:
        """A tmpfs of `size` bytes. Raises `SkippedFault` where it cannot be mounted."""
        if not self.mounts:
            raise SkippedFault("needs root, to mount a small tmpfs")
        place = self.place()
        place.mkdir(parents=True)
        call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
        try:
            yield place
        finally:
            call("umount", "--lazy", place)


def enlarge(disk: Path) -> None:
    """Give a disk of `Lab.small_disk` as much room as a test can need."""
    call("mount", "-o", "remount,size=64m", disk)


def _draw_pictures(folder: Path) -> None:
    draw = random.Random(0)
    folder.mkdir()
    for number in range(24):
        colours = [tuple(draw.randrange(256) for _ in range(3)) for _ in range(2)]
        corner = [draw.randrange(12) for _ in range(2)]
        picture = Image.new("RGB", (40, 40), colours[0])
        ImageDraw.Draw(picture).ellipse([*corner, corner[0] + 20, corner[1] + 24], fill=colours[1])
        picture.save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"a disc with the number {number}\n")


# Files.


def files_in(folder: Path) -> dict[str, bytes]:
    """{name: bytes} of all files, hidden ones but `.lock` included."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != ".lock"
    }


def size_of(folder: Path) -> int:
    """Bytes of all files, in whole pages of a tmpfs."""
    return sum(-(-len(data) // PAGE) * PAGE for data in files_in(folder).values())


def hidden(name: str) -> bool:
    """Whether a relative path is or lies in a hidden file, such as a half-written one."""
    return any(part.startswith(".") for part in Path(name).parts)


# Runs.


def newest_images(run_dir: Path) -> int | None:
    """Images of the newest whole checkpoint, read without the code that resumes."""
    for path in sorted(run_dir.glob("training-state-*.pt"), reverse=True):
        try:
            refuse_damage(path)
            state = torch.load(path, weights_only=True)
        except Exception:  # a damaged file raises anything
            continue
        return int(state["progress"]["images"])
    return None


def damaged_files(run_dir: Path) -> list[str]:
    """The files of a run with final names that cannot be read."""
    from safetensors.torch import load_file

    faults = []
    for name in files_in(run_dir):
        path = run_dir / name
        try:
            if hidden(name):
                continue
            if path.suffix == ".pt":
                refuse_damage(path)
                torch.load(path, weights_only=True)
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".png":
                with Image.open(path) as picture:
                    picture.load()
            elif path.suffix == ".jsonl":
                json_lines(path)
        except Exception as error:  # a damaged file raises anything
            faults.append(f"{name} is damaged ({type(error).__name__})")
    return faults


def differences(run_dir: Path, reference: Path, *, weights_only: bool = False) -> list[str]:
    """How the results of two finished runs differ; times and options are left out.

    weights_only: compare only the networks, the optimisers and the averages.
    """
    left, right = (
        torch.load(checkpoints(folder)[0], weights_only=True) for folder in (run_dir, reference)
    )
    parts = ["generator", "discriminator", "ema", "player_g", "player_d", "augment", "loss"]
    parts += [] if weights_only else ["progress"]
    for state in (left, right):
        del state["progress"]["elapsed_s"]
        for player in ("player_g", "player_d") if weights_only else ():
            del state[player]["skipped"]
    faults = [f"{part} differs" for part in parts if not _equal(left[part], right[part])]
    if weights_only:
        return faults
    files, expected = files_in(run_dir), files_in(reference)
    changing = ("log.txt", ".pt", ".jsonl", ".json", ".md")  # compared otherwise, or with times
    for name in files.keys() | expected.keys():
        if name not in files or name not in expected:
            faults.append(f"{name} is {'left over' if name in files else 'missing'}")
        elif not name.endswith(changing) and files[name] != expected[name]:
            faults.append(f"{name} differs")
    if _records(run_dir) != _records(reference):
        faults.append("stats.jsonl differs")
    return faults


def _records(run_dir: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.items() if name not in TIMES}
        for record in json_lines(run_dir / "stats.jsonl")
    ]


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)
