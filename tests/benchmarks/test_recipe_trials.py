"""Trials at equal processor time: statistics by hand, parsing, resuming, and a real small trial."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

from benchmarks import trial_runs
from benchmarks.recipe_trials import IS_PAGE, main, page
from benchmarks.trial_page import cell, differences, differing, least_difference, table
from benchmarks.trial_runs import (
    OPEN_END,
    Trial,
    TrialRun,
    parse_trial,
    pauses,
    planned_images,
    rate,
    saves_at_sigterm,
    session_cpu_s,
)
from dnnlib.errors import UserError
from tests.benchmarks.made_up_runs import trial_rows

# Behaves like train.py: a tick of 8 images, a state at the end; SIGTERM saves, exit code 3.
OPTIONS = '{"recipe": "debug", "generator": {}, "text_encoder": "hashed"}'
STAND_IN = """
import json, pathlib, signal, sys, time
folder, kimg = pathlib.Path(sys.argv[1]), float(sys.argv[2])
folder.mkdir(exist_ok=True)
(folder / "training_options.json").write_text(sys.argv[3])
state = folder / "state.json"
images = json.loads(state.read_text()) if state.exists() else 0
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
while images < kimg * 1000 and not asked:
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass
    images += 8
    with open(folder / "stats.jsonl", "a") as file:
        file.write(json.dumps({"images": images}) + "\\n")
state.write_text(str(images))
sys.exit(3 if images < kimg * 1000 else 0)
"""


def test_the_least_difference_is_that_of_the_formula():
    rows = trial_rows(a=[1.0, 2.0, 3.0], b=[4.0, 5.0, 6.0])  # both have the standard deviation 1
    found = least_difference(rows, "swd")
    assert (found.deviation, found.freedom, found.seeds) == (1.0, 4, 3)
    assert found.least == pytest.approx(2.776445 * (2 / 3) ** 0.5, abs=1e-5)
    assert differing(rows, "swd") == ["`a` is better than `b` by 3"]
    # 2.2 apart; the least difference is 2.267
    near = trial_rows(a=[1.0, 2.0, 3.0], b=[3.2, 4.2, 5.2])
    assert least_difference(near, "swd").least == pytest.approx(found.least)
    assert differing(near, "swd") == []
    assert "| `swd` (less is better) | 1 | 4 | 2.27 | none |" in differences(near, ["swd"])
    better = trial_rows("clip_s_small_heldout", a=[1.0, 2.0, 3.0], b=[4.0, 5.0, 6.0])
    assert differing(better, "clip_s_small_heldout") == ["`b` is better than `a` by 3"]


def test_where_1_is_best_the_distances_from_1_are_compared():
    # The means are 0.9, 1.15 and 1.3, the deviations 0.05 each, the least difference is 0.0999.
    rows = trial_rows("motif", a=[0.85, 0.9, 0.95], b=[1.1, 1.15, 1.2], c=[1.25, 1.3, 1.35])
    assert differing(rows, "motif") == [
        "`a` is better than `c` by 0.2",
        "`b` is better than `c` by 0.15",
    ]


def test_the_table_gives_mean_and_deviation_over_seeds():
    lines = table(trial_rows(a=[1.0, 2.0, 3.0], b=[4.0, None, 5.0]), ["swd"])
    assert lines[2] == "| `a` | 0, 1, 2 | 9 (8 to 10) | 60 | 2 +- 1 |"
    assert lines[3] == "| `b` | 0, 1, 2 | 9 (8 to 10) | 60 | 4.5 +- 0.71 (2 of 3 seeds) |"
    assert "- `b`, `swd`: not finite" in lines
    assert cell([None]) == "none" and cell([2.0]) == "2 (1 seed)"


def test_one_seed_gives_no_scatter():
    text = page(trial_rows(a=[1.0], b=[4.0]), ["swd"], ["c-seed0: not finite"])
    assert "No trial has two seeds" in text and "+- " not in text.split("| Trial |")[1]
    assert "better" not in text and "Not finished: c-seed0: not finite" in text


def test_trials_are_parsed():
    assert parse_trial("a=debug") == Trial("a", "debug")
    assert parse_trial("b.1=debug lr_decay=0.5 'metric_num= 4'") == Trial(
        "b.1", "debug", ("lr_decay=0.5", "metric_num= 4")
    )
    assert parse_trial("b=debug lr_decay=0.5").config().lr_decay == 0.5


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "expected NAME=RECIPE"),
        ("debug", "expected NAME=RECIPE"),
        ("=debug", "expected NAME"),
        ("../a=debug", "expected NAME=RECIPE"),
        ("a=debug 'x", "expected NAME=RECIPE"),
        ("a=debug kimg=3", "kimg is the same for all trials"),
        ("a=debgu", "--trial a: unknown recipe 'debgu'; did you mean 'debug'"),
        ("a=debug generator.plce=false", "--trial a: --set generator.plce: no field 'plce'"),
        ("a=debug lr_decay", "--trial a: --set lr_decay: expected NAME=VALUE"),
    ],
)
def test_what_is_wrong_with_a_trial_is_told_in_one_line(text, words, tmp_path):
    done = call(tmp_path / "none.zip", tmp_path / "runs", "--trial", text)
    assert done.exit_code == 1 and words in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", ["a", "2-1", "0,0", "0-", "-1"])
def test_wrong_seeds_are_refused(text, tmp_path):
    done = call(tmp_path / "none.zip", tmp_path / "runs", "--trial", "a=debug", f"--seeds={text}")
    assert done.exit_code == 1 and f"Error: --seeds {text}: " in done.stderr


def test_the_end_is_planned_from_the_later_half():
    assert pauses(0.0) == [0.9] and pauses(0.5) == [0.5, 0.7, 0.9]
    assert pauses(1.0) == [0.05, pytest.approx(0.475), 0.9]
    points = [(0.0, 0), (14.0, 80), (30.0, 240), (50.0, 400), (60.0, 480)]  # 8 images/s, start 4 s
    assert rate(points, 0) == pytest.approx(8.0)
    assert planned_images(points, 100.0, 16, 0) == 480 + 288  # 36 s left: 288 images
    assert planned_images(points, 50.0, 16, 0) == 496  # the time is used: one batch more
    assert rate([(0.0, 0), (4.0, 8)], 0) == 2.0
    slower = [*points, (70.0, 500), (80.0, 520)]  # at the final side
    assert rate(slower, 480) == 2.0 and rate(points, 480) == pytest.approx(8.0)


def test_processor_time_is_that_of_the_session():
    busy = "import time\nwhile time.process_time() < 0.3: pass\n"
    code = (
        f"import subprocess, sys, signal\nsubprocess.run([sys.executable, '-c', {busy!r}])\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        process.stdout.readline()
        assert session_cpu_s(process.pid) >= 0.29 and saves_at_sigterm(process.pid)
        process.communicate(b"\n")
    assert session_cpu_s(process.pid) == 0 and not saves_at_sigterm(process.pid)


@pytest.fixture
def stand_in(monkeypatch):
    """Let `TrialRun` start the small process above; returns a list of the values of --kimg."""
    asked = []

    def start(self, kimg, output):
        asked.append(kimg)
        return subprocess.Popen(
            [sys.executable, "-S", "-c", STAND_IN, str(self.folder), str(kimg), OPTIONS],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def newest(folder):
        state = folder / "state.json"
        return (
            (state, {"progress": {"images": json.loads(state.read_text())}})
            if state.exists()
            else None
        )

    monkeypatch.setattr(trial_runs, "POLL_S", 0.01)
    monkeypatch.setattr(trial_runs, "read_newest", newest)
    monkeypatch.setattr(TrialRun, "start", start)
    return asked


def opened(tmp_path, **fields):
    """A run of 0.6 processor seconds after `open`."""
    run = TrialRun(Trial("a", "debug", **fields), 0, 0.01, "none.zip", tmp_path)
    run.open()
    return run


@pytest.mark.slow
def test_an_interrupted_trial_goes_on(stand_in, tmp_path, monkeypatch):
    stop, observe = threading.Event(), TrialRun.observe

    def interrupt(self, cpu_s):
        observe(self, cpu_s)
        if self.points[-1][1] >= 24:
            stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(TrialRun, "observe", interrupt)
        opened(tmp_path).train(stop)
    kept = json.loads((tmp_path / "a-seed0.json").read_text())
    assert not kept["done"] and stand_in == [OPEN_END] and kept["points"][-1][1] >= 24
    run = opened(tmp_path)
    assert run.cpu_s == kept["cpu_s"] == kept["points"][-1][0] > 0
    run.train(threading.Event())
    assert run.done and stand_in[:2] == [OPEN_END, OPEN_END] and len(stand_in) == 3
    assert run.points[: len(kept["points"])] == [tuple(point) for point in kept["points"]]
    assert run.points == sorted(run.points) and run.points[-1] == (run.cpu_s, 1000 * stand_in[2])
    assert run.cpu_s >= 0.9 * 0.6 and run.lost_s == 0
    again = opened(tmp_path)
    again.train(threading.Event())
    assert again.done and len(stand_in) == 3  # a finished run is not started


def test_time_of_lost_images_is_not_counted(stand_in, tmp_path):
    run = opened(tmp_path)
    run.points, run.cpu_s = [(0.0, 0), (1.0, 8), (2.0, 16), (3.0, 24)], 3.5
    run.folder.mkdir()
    (run.folder / "training_options.json").write_text(OPTIONS)
    (run.folder / "state.json").write_text("16")
    ticks = run.folder / "stats.jsonl"
    ticks.write_text('{"images": 16}\n{"images": 24}\n')
    run.settle()
    assert (run.cpu_s, run.lost_s, run.points[-1]) == (2.0, 1.5, (2.0, 16))
    assert run.images() == 16 and opened(tmp_path).lost_s == 1.5
    run.cpu_s = 2.5
    (run.folder / "state.json").write_text(
        "20"
    )  # train.py saved a state after this process was killed
    run.settle()
    assert (run.cpu_s, run.lost_s, run.points[-1]) == (2.5, 1.5, (2.5, 20))


def test_a_training_that_fails_is_told(stand_in, tmp_path, monkeypatch):
    def start(code):
        monkeypatch.setattr(
            TrialRun,
            "start",
            lambda self, kimg, output: subprocess.Popen(
                [sys.executable, "-S", "-c", code], stdout=output, start_new_session=True
            ),
        )

    start("print('Error: no such thing'); raise SystemExit(1)")
    with pytest.raises(UserError, match=r"^a-seed0: Error: no such thing$"):
        opened(tmp_path).train(threading.Event())
    start("raise SystemExit(3)")
    with pytest.raises(UserError, match="another process stopped its training"):
        opened(tmp_path).train(threading.Event())


def test_records_and_folders_of_others_are_refused(stand_in, tmp_path):
    run = opened(tmp_path)
    run.keep()
    with pytest.raises(UserError, match=r"has settings \[\], now \['lr_decay=0.5'\] is asked"):
        opened(tmp_path, settings=("lr_decay=0.5",))
    run.path.write_text('{"mine": 1}')
    with pytest.raises(UserError, match="a-seed0.json is no JSON file with"):
        opened(tmp_path)
    run.path.unlink()
    run.folder.mkdir()
    (run.folder / "stats.jsonl").write_text("mine")
    with pytest.raises(UserError, match="holds stats.jsonl, but no training_options.json of ours"):
        opened(tmp_path)
    (run.folder / "training_options.json").write_text(OPTIONS)
    (run.folder / "training-state-000001.pt").write_bytes(b"")
    with pytest.raises(UserError, match="processor time is not known"):
        opened(tmp_path)


def call(data, outdir, *arguments):
    return CliRunner().invoke(
        main,
        ["--data", str(data), "--outdir", str(outdir), "--cpu-minutes", "0.01", *arguments],
        catch_exceptions=False,
    )


def test_foreign_targets_and_wrong_data_are_refused_before_the_work(openmoji32, tmp_path):
    record, runs = tmp_path / "x.json", tmp_path / "runs"
    for target in (record, record.with_suffix(".md")):
        target.write_text("mine")
        done = call(openmoji32, runs, "--trial", "a=debug", "--json", str(record))
        assert done.exit_code == 1 and f"{target} " in done.stderr and target.read_text() == "mine"
        target.unlink()
    for data, arguments, words in (
        (tmp_path / "none.zip", ["--trial", "a=debug"], "none.zip"),
        (openmoji32, ["--trial", "a=debug", "--trial", "a=debug"], "the same name"),
        (openmoji32, ["--trial", "a=debug", "--json", "x.md"], "must end in .json"),
        (openmoji32, ["--trial", "a=debug", "--metrics", "sdw"], "did you mean 'swd'"),
        (openmoji32, ["--trial", "a=eidgan-openmoji64"], "pictures are 32x32"),
    ):
        done = call(data, runs, *arguments)
        assert done.exit_code == 1 and words in done.stderr and done.stderr.count("\n") == 1
    assert not list(runs.glob("a*"))


@pytest.mark.slow
def test_a_real_trial(openmoji32, tmp_path):
    """The time is so short that each training pauses as soon as it can and then ends."""
    record = tmp_path / "trials.json"
    words = [
        "--trial",
        "a=debug lr_decay=0.1",
        *"--seeds 0 --metrics swd --num-images 4".split(),
        "--json",
        str(record),
    ]
    done = call(openmoji32, tmp_path / "runs", *words)
    assert done.exit_code == 0, done.stderr
    found = json.loads(record.read_text())
    (row,) = found["rows"]
    kept = json.loads((tmp_path / "runs" / "a-seed0.json").read_text())
    assert kept["done"] and row["kimg"] == kept["points"][-1][1] / 1000 >= 0.016
    assert row["cpu_minutes_used"] == pytest.approx(kept["cpu_s"] / 60, abs=1e-3)
    assert row["values"]["swd"] > 0 and found["least_difference"] == {"swd": None}
    score = row["records"]["swd"]
    assert score["value"] == row["values"]["swd"] and len(score["snapshot_sha256"]) == 64
    assert score["dataset"]["content_hash"] and score["detector"] and score["versions"]["protocols"]
    assert "commit" in found["machine"]
    text = record.with_suffix(".md").read_text()
    assert text in done.stdout and "- `a`: `debug lr_decay=0.1`" in text
    assert IS_PAGE(record.with_suffix(".md")) is None
    options = json.loads((tmp_path / "runs/a-seed0/training_options.json").read_text())
    assert options["kimg"] == row["kimg"] and options["lr_decay"] == 0.1
    assert call(openmoji32, tmp_path / "runs", *words).exit_code == 0
    assert json.loads(record.read_text())["rows"] == found["rows"]
