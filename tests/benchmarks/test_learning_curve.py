"""The learning curve of a run: every snapshot has a row, and one of them is chosen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from benchmarks.learning_curve import best, main, on_split, parse_scatter
from dnnlib.errors import UserError
from metrics.evaluations import evaluations_named
from networks.snapshot import Snapshot


def rows(**scores):
    """Rows with kimg 0, 1, ... and the given values of each metric."""
    number = len(next(iter(scores.values())))
    return [
        {"kimg": i, "scores": {name: values[i] for name, values in scores.items()}}
        for i in range(number)
    ]


def test_the_best_row_is_nearest_to_the_best_values():
    curve = rows(swd=[90, 40, 50, 60], clip_s_small_heldout=[0.1, 0.2, 0.5, 0.6])
    # In units of 10 and 0.1: 5 + 5, 0 + 4, 1 + 1, 2 + 0; in units of 5 and 0.1 the third wins.
    assert best(curve, {"swd": 10, "clip_s_small_heldout": 0.1})["kimg"] in (2, 3)
    assert best(curve, {"swd": 5, "clip_s_small_heldout": 0.1})["kimg"] == 2
    assert best(curve, {"swd": 20, "clip_s_small_heldout": 0.1})["kimg"] == 3
    assert best(curve, {"swd": 10})["kimg"] == 1
    # A snapshot whose pictures are not finite is the worst.
    assert best(rows(swd=[None, 40]), {"swd": 1})["kimg"] == 1


@pytest.mark.parametrize("text", ["swd", "swd:", "swd:0", "swd:-1", "swd:nan", "swd:x", ""])
def test_a_metric_needs_a_positive_deviation(text):
    assert parse_scatter("swd:5.1, ppd:0.04") == {"swd": 5.1, "ppd": 0.04}
    with pytest.raises(UserError, match="is not NAME:DEVIATION"):
        parse_scatter(text)


def test_captions_and_real_pictures_come_from_the_split():
    [swd] = evaluations_named(["swd"])
    moved = on_split(swd, "train")
    assert (moved.pictures.split, moved.reference.split) == ("train", "train")
    assert (swd.pictures.split, swd.reference.split) == ("test", "test")


def test_a_curve_of_another_detector_is_not_continued(openmoji32, network, tmp_path):
    run, path = tmp_path / "run", tmp_path / "curve.json"
    shutil.copytree(network, run / "network-snapshot-000000")
    how = ["--data", openmoji32, "--metrics", "kid_lite2", "--choose", "kid_lite2:0.1"]
    earlier = {"benchmark": "learning curve", "rows": [], "detectors": {"kid_lite2": None}}
    path.write_text(json.dumps(earlier))
    words = [run, *how, "--num-images", 2, "--json", path]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 1 and "another value of" in done.output and "detectors" in done.output


def test_a_run_is_scored_once(openmoji32, network, tmp_path):
    run = tmp_path / "run"
    for number in range(2):
        snapshot = Snapshot.from_pretrained(network)
        with torch.no_grad():
            for parameter in snapshot.generator.parameters():
                parameter.mul_(1 + number)
        changed = replace(snapshot, resolution=32, info=snapshot.info | {"kimg": float(number)})
        changed.save_pretrained(run / f"network-snapshot-{number:06d}")
    record = tmp_path / "curve.json"

    def call(*flags):
        arguments = [str(run), "--data", str(openmoji32), "--num-images", "4", *flags]
        return CliRunner().invoke(main, [*arguments, "--json", str(record)])

    flags = ("--metrics", "motif", "--choose", "motif:1")
    done = call(*flags)
    assert done.exit_code == 0, done.output
    kept = json.loads(record.read_text())
    assert [row["kimg"] for row in kept["rows"]] == [0, 1]
    assert kept["split"] == "train" and kept["best_kimg"] in (0, 1)
    shutil.rmtree(run / "network-snapshot-000000")
    assert call(*flags).exit_code == 0
    assert json.loads(record.read_text()) == kept
    other = call("--metrics", "swd", "--choose", "swd:1")
    assert other.exit_code == 1 and "was made with another value of metrics" in other.output
    assert json.loads(record.read_text()) == kept


def test_mistakes_are_one_line(openmoji32, tmp_path):
    def said(*arguments):
        done = CliRunner().invoke(
            main, [*arguments, "--data", str(openmoji32), "--json", str(tmp_path / "a.json")]
        )
        assert done.exit_code == 1
        return done.output

    assert "has no snapshots" in said(str(tmp_path))
    assert "--choose: kid_lite2 is not among" in said(
        str(tmp_path), "--metrics", "swd", "--choose", "kid_lite2:1"
    )
