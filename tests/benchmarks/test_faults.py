"""benchmarks/faults: a short run loses nothing, and what is lost would be seen."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks.faults import __main__ as faults
from benchmarks.faults.commands import Done
from benchmarks.faults.injections import changes_in, kill_at_byte, kill_at_change, noted_changes
from benchmarks.faults.lab import SkippedFault, damaged_files, differences, newest_images
from benchmarks.faults.table import FAULTS, Fault, table
from dnnlib.files import write_text
from dnnlib.ownership import in_our_folder

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.multi_process
def test_a_short_run_loses_nothing_and_writes_its_record(tmp_path):
    words = [sys.executable, "-m", "benchmarks.faults", "--short", "--json", tmp_path / "r.json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "r.json").read_text())
    assert len(record["rows"]) == sum(fault.in_short for fault in FAULTS.values())
    assert not any(row["faults"] for row in record["rows"])
    assert record["table"][-1][-1] == "0"
    assert "| all " in (tmp_path / "r.md").read_text()


def test_a_full_run_has_sixty_points():
    assert sum(fault.times for fault in FAULTS.values()) >= 60


def test_a_lost_point_is_counted_and_the_exit_code_says_so(monkeypatch, tmp_path):
    def cause(lab, draw):
        if draw.random() < 0.5:
            raise SkippedFault("not here")
        return "somewhere", ["a step is missing"]

    monkeypatch.setitem(FAULTS, "kill -9 while training", Fault(cause, 8, 0))
    monkeypatch.setattr(faults, "Lab", lambda folder, mounts: None)
    monkeypatch.setattr(faults, "private_mounts", lambda: None)
    words = ["--only", "kill -9 while training", "--json", str(tmp_path / "r.json")]
    done = CliRunner().invoke(faults.main, words)
    assert done.exit_code == 1 and "somewhere: a step is missing" in done.output
    assert "skipped: not here" in done.output
    record = json.loads((tmp_path / "r.json").read_text())
    lost = sum(bool(row["faults"]) for row in record["rows"])
    assert 0 < lost < 8 and record["table"][1][1:] == [str(lost), "0", str(lost)]


def test_the_end_of_a_command_is_judged():
    line = "Error: x is in use by another process\n"
    assert Done(1, line, False).faults("refused: in use") == []
    assert Done(1, line, False).faults("refused: full") != []
    assert Done(1, line + line, False).faults("refused: in use") != []
    assert Done(0, line, False).faults("refused: in use") != []
    assert Done(0, "", True).faults("finished") == ["a process hung"]
    assert Done(0, "Traceback (most", False).faults("finished") != []
    assert Done(-9, "", False).faults("killed") == Done(0, "", False).faults("finished") == []
    assert Done(1, "", False).faults("killed") and Done(-9, "", False).faults("finished")


def make_run(folder, weight=1.0):
    """The files of a finished run, as `differences` reads them."""
    (folder / "network-snapshot-000001").mkdir(parents=True)
    parts = ("generator", "discriminator", "ema", "player_g", "player_d", "augment", "loss")
    state = {part: {"skipped": 0} for part in parts} | {"generator": {"w": torch.tensor(weight)}}
    state["progress"] = {"images": 1032, "elapsed_s": weight}
    torch.save(state, folder / "training-state-000001.pt")
    Image.new("RGB", (8, 8)).save(folder / "fakes000001.png")
    record = {"tick": 1, "images": 1032, "elapsed_s": weight}
    (folder / "stats.jsonl").write_text(json.dumps(record) + "\n")
    return folder


def test_differences_between_runs_are_seen(tmp_path):
    one, same, other = (make_run(tmp_path / str(number)) for number in range(3))
    assert differences(one, same) == [] and newest_images(one) == 1032
    (same / ".temporary").touch()
    (other / "fakes000001.png").unlink()
    assert differences(one, same) == [".temporary is missing"]
    assert differences(one, other) == ["fakes000001.png is left over"]
    assert differences(other, one) == ["fakes000001.png is missing"]
    late = make_run(tmp_path / "late", weight=1.5)
    assert differences(one, late) == ["generator differs"]
    (late / "stats.jsonl").write_text('{"tick": 2, "images": 1032}\n')
    assert differences(one, late) == ["generator differs", "stats.jsonl differs"]


@pytest.mark.parametrize("name", ["training-state-000001.pt", "fakes000001.png", "stats.jsonl"])
def test_damaged_files_are_seen(name, tmp_path):
    run = make_run(tmp_path / "run")
    assert damaged_files(run) == []
    data = (run / name).read_bytes()
    (run / name).write_bytes(data[: len(data) // 2])
    (fault,) = damaged_files(run)
    assert fault.startswith(f"{name} is damaged")


def in_child(*injections, write):
    """The exit code of a forked process that calls the injections and then writes."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            for inject in injections:
                inject()
            write()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_write_is_cut_at_every_change_and_at_every_byte(tmp_path):
    def write(folder):
        return lambda: write_text(folder / "a.txt", "x" * 9000, ours=in_our_folder)

    place, note = tmp_path / "all", tmp_path / "note"
    assert in_child(noted_changes(place, note), write=write(place)) == 0
    changes = changes_in(note, "a.txt")
    assert "open TEMPORARY-a.txt" in changes and "rename a.txt" in changes
    renamed = changes.index("rename a.txt")
    for number in range(len(changes)):
        place = tmp_path / str(number)
        assert in_child(kill_at_change(place, "a.txt", number), write=write(place)) == -9
        assert (place / "a.txt").exists() == (number > renamed)
    place = tmp_path / "bytes"
    assert in_child(kill_at_byte(5000), write=write(place)) == -25
    assert [path.stat().st_size for path in place.iterdir()] == [5000]


def test_counts_of_the_table():
    rows = [{"fault": "clock that jumps", "faults": faults} for faults in ([], [], ["x"])]
    rows.append({"fault": "clock that jumps", "faults": [], "skipped": "no"})
    heading, row, total = table(rows)
    assert heading == ["fault", "times", "recovered", "lost"]
    assert row == ["clock that jumps", "3", "2", "1"] and total == ["all", "3", "2", "1"]
