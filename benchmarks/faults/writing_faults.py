"""Faults of commands that write files: data sets, videos, huge pictures, kept features, plugins."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.faults.injections import (
    Injection,
    changes_in,
    kill,
    kill_at_byte,
    kill_at_change,
    noted_changes,
)
from benchmarks.faults.lab import PAGE, Lab, enlarge, files_in, hidden, size_of
from benchmarks.faults.training_faults import Outcome
from torch_utils.ops import build

# The arguments of a command that writes into a folder. `seed` changes the result.
Words = Callable[[Lab, Path, int], list[object]]


def _data_set(name: str) -> Words:
    def words(lab: Lab, out: Path, seed: int) -> list[object]:
        arguments: list[object] = ["dataset_tool.py", "folder", "--source", lab.source]
        side = 24 + 8 * seed
        return [*arguments, "--dest", out / name, "--resolution", f"{side}x{side}"]

    return words


def _video(name: str) -> Words:
    def words(lab: Lab, out: Path, seed: int) -> list[object]:
        arguments: list[object] = ["generate.py", "video", "--network", lab.network, "--kind"]
        arguments += ["zoom", "--prompt", "a disc", "--frames", 6, "--size", "64x64"]
        return [*arguments, "--seeds", seed, "--out", out / name]

    return words


def _huge(kind: str) -> Words:
    def words(lab: Lab, out: Path, seed: int) -> list[object]:
        arguments: list[object] = ["generate.py", "--network", lab.network, "--prompts", "a disc"]
        arguments += ["--format", kind, "--size", "640x600", "--tile", 256]
        return [*arguments, "--seeds", seed, "--outdir", out]

    return words


def _features(lab: Lab, out: Path, seed: int) -> list[object]:
    arguments: list[object] = ["calc_metrics.py", "calc", "--network", lab.network]
    arguments += ["--data", lab.data, "--metrics", "kid_lite2", "--num-images", 8]
    return [*arguments, "--seed", seed, "--cache", out]


DATA_SETS = {"a zip": _data_set("d.zip"), "a folder": _data_set("d")}
VIDEOS = {"MP4": _video("v.mp4"), "WebP": _video("v.webp"), "a folder of frames": _video("v")}
HUGE = {"TIFF": _huge("tiff"), "Deep Zoom": _huge("dzi")}
FEATURES: dict[str, Words] = {"features": _features}
ALL = DATA_SETS | VIDEOS | HUGE | FEATURES


def _scores(output: str) -> list[object]:
    """The values of the records that a command has printed."""
    lines = (line for line in output.splitlines() if line.startswith("{"))
    return [json.loads(line)["value"] for line in lines]


def _undisturbed(lab: Lab, name: str, seed: int) -> tuple[Path, Path, list[object]]:
    """(folder of the results, list of the changes, scores) of a command without a fault."""
    place = lab.folder / "written" / f"{name} {seed}"
    note, scores = place.with_suffix(".changes"), place.with_suffix(".scores")
    if not scores.exists():
        place.mkdir(parents=True)
        done = lab.run(ALL[name](lab, place, seed), noted_changes(place, note))
        if faults := done.faults("finished"):
            raise RuntimeError(f"without any fault, {name}: {faults}")
        scores.write_text(json.dumps(_scores(done.output)))
    return place, note, json.loads(scores.read_text())


def _repeated(lab: Lab, name: str, out: Path, earlier: Path | None) -> list[str]:
    """What lies in `out` after the fault, and what the same command makes of it."""
    reference, _, scores = _undisturbed(lab, name, 1)
    expected, before = files_in(reference), files_in(earlier) if earlier else {}
    faults = []
    for file, data in files_in(out).items():
        unfinished = hidden(file) or ".part/" in file
        if not unfinished and data not in (expected.get(file), before.get(file)):
            faults.append(f"{file} is neither the earlier result nor the new one")
    done = lab.run(ALL[name](lab, out, 1))
    faults += done.faults("finished")
    if _scores(done.output) != scores:
        faults.append(f"scores {_scores(done.output)} instead of {scores}")
    results = {file: data for file, data in files_in(out).items() if file not in before}
    results |= {file: data for file, data in files_in(out).items() if file in expected}
    for file in results.keys() | expected.keys():
        if results.get(file) != expected.get(file):
            faults.append(f"{file} differs, is missing or is left over")
    return faults


def _begun(lab: Lab, draw: random.Random, name: str, out: Path) -> Path | None:
    """Put an earlier result into `out`, for half of the points; kept features are never changed."""
    replaced = draw.random() < 0.5 and name not in FEATURES
    earlier = _undisturbed(lab, name, 0)[0] if replaced else None
    if earlier:
        shutil.copytree(earlier, out, dirs_exist_ok=True)
    else:
        out.mkdir(parents=True, exist_ok=True)
    return earlier


def kill_write(lab: Lab, draw: random.Random, products: dict[str, Words]) -> Outcome:
    """Kill a command that writes, at a change of its files or at a number of bytes."""
    name = draw.choice(list(products))
    reference, note, _ = _undisturbed(lab, name, 1)
    out = lab.place()
    earlier = _begun(lab, draw, name, out)
    if draw.random() < 0.4:
        size = draw.randrange(max(map(len, files_in(reference).values())))
        inject, words = kill_at_byte(size), f"after {size} bytes"
    else:
        changes = changes_in(note)
        number = draw.randrange(len(changes))
        inject, words = kill_at_change(out, "", number), f"before change {number + 1}"
        words += f" of {len(changes)}: {changes[number]}"
    faults = lab.run(ALL[name](lab, out, 1), inject).faults("killed")
    place = f"{name}, {words}{', over an earlier one' if earlier else ''}"
    return place, faults + _repeated(lab, name, out, earlier)


def full_disk(lab: Lab, draw: random.Random) -> Outcome:
    name = draw.choice([*DATA_SETS, "a folder of frames", *HUGE])  # of more than two pages
    needed = size_of(_undisturbed(lab, name, 1)[0])
    free = draw.randrange(1, needed // PAGE) * PAGE
    with lab.small_disk(free) as out:
        done = lab.run(ALL[name](lab, out, 1))
        faults = done.faults("refused: No space left on device")
        enlarge(out)
        faults += _repeated(lab, name, out, None)
    return f"{name}, {free} of {needed} bytes were free", faults


def stale_lock(lab: Lab, draw: random.Random) -> Outcome:
    """Kill a build of an operator while it holds its lock, and build again.

    A function that writes a file replaces the compiler, because only the lock is tested.
    """
    cache, when = lab.place(), draw.choice(["before", "after"])
    cache.mkdir(parents=True)

    def compiler(dies: bool) -> Injection:
        def compiled(
            name: str, home: Path, architectures: list[str], library: Path, _: str
        ) -> None:
            if dies and when == "before":
                kill()
            library.write_bytes(b"a library")
            if dies:
                kill()

        def inject() -> None:
            os.environ["EIDGAN_CACHE"] = str(cache)
            torch.version.cuda = "13.0"
            build.LOCK_TIMEOUT_S = 5
            build.cuda_home = lambda: cache
            build.compiler_version = lambda home: (13, 0)
            build.known_architectures = lambda home: [80, 90]
            build.find_ninja = lambda: "ninja"
            build._compile = compiled  # type: ignore[assignment]

        return inject

    words: list[object] = ["torch_utils.ops.build", "--arch", "9.0"]
    faults = lab.run(words, compiler(True)).faults("killed")
    locks = [name for name in files_in(cache) if name.endswith("/lock")]
    if not locks:
        faults.append("the killed build left no lock")
    done = lab.run(words, compiler(False))
    faults += done.faults("finished")
    built = [name for name in files_in(cache) if name.endswith(".so")]
    if len(built) != len(build.PLUGINS):
        faults.append(f"built {built}")
    return f"{when} the library was written", faults
