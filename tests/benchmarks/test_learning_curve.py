"""The learning curve of a run: every snapshot has a row, and the best one follows from ranks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import torch
from click.testing import CliRunner

from benchmarks.learning_curve import best, main, on_split
from metrics.evaluations import evaluations_named
from networks.snapshot import Snapshot


def rows(**scores):
    """Rows with kimg 0, 1, ... and the given values of each metric."""
    number = len(next(iter(scores.values())))
    return [
        {"kimg": i, "scores": {name: values[i] for name, values in scores.items()}}
        for i in range(number)
    ]


def test_the_best_row_has_the_least_sum_of_ranks():
    curve = rows(swd=[90, 40, 50, 60], clip_s_small_heldout=[0.1, 0.2, 0.5, 0.4])
    # Ranks: 3 + 3, 0 + 2, 1 + 0, 2 + 1.
    assert best(curve, ["swd", "clip_s_small_heldout"])["kimg"] == 2
    assert best(curve, ["swd"])["kimg"] == 1
    # A snapshot whose pictures are not finite is the worst.
    assert best(rows(swd=[None, 40]), ["swd"])["kimg"] == 1
    tie = rows(swd=[50, 40], clip_s_small_heldout=[0.5, 0.4])
    assert best(tie, ["swd", "clip_s_small_heldout"])["kimg"] == 1


def test_captions_and_real_pictures_come_from_the_split():
    [swd] = evaluations_named(["swd"])
    moved = on_split(swd, "train")
    assert (moved.pictures.split, moved.reference.split) == ("train", "train")
    assert (swd.pictures.split, swd.reference.split) == ("test", "test")


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

    flags = ("--metrics", "motif", "--choose", "motif")
    done = call(*flags)
    assert done.exit_code == 0, done.output
    kept = json.loads(record.read_text())
    assert [row["kimg"] for row in kept["rows"]] == [0, 1]
    assert kept["split"] == "train" and kept["best_kimg"] in (0, 1)
    shutil.rmtree(run / "network-snapshot-000000")
    assert call(*flags).exit_code == 0
    assert json.loads(record.read_text()) == kept
    other = call("--metrics", "swd", "--choose", "swd")
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
        str(tmp_path), "--metrics", "swd", "--choose", "kid_lite2"
    )
