"""Projections beside enlargements: the rows, and distances with known answers."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from benchmarks import projection_detail
from benchmarks.projection_detail import Distances, enlarged, main
from tests.networks.sizes import Pixels


@pytest.fixture(autouse=True)
def _quick_towers(monkeypatch):
    monkeypatch.setattr(projection_detail, "FrozenScales", Pixels)
    load = projection_detail.load_detector
    monkeypatch.setattr(projection_detail, "load_detector", lambda _, device: load("toy", device))


def test_distances_of_known_pictures():
    truth = torch.full((3, 16, 16), 255, dtype=torch.uint8)
    grey = torch.full((3, 16, 16), 204, dtype=torch.uint8)
    found = Distances()(grey, truth)
    assert found["psnr"] == pytest.approx(13.979, abs=1e-3)  # an error of 0.2
    # In [-1, 1] the truth is 1 and the error 0.4, at both scales.
    assert found["lite0"] == found["lite2"] == pytest.approx(0.16, abs=1e-5)
    same = Distances()(truth, truth)
    assert same["psnr"] == 100 and same["lite0"] == 0
    flat = enlarged(grey[:, :4, :4], 16, "lanczos")
    assert flat.shape == (3, 16, 16) and (flat == 204).all()


def test_every_kind_of_picture_has_a_row(network, openmoji32, tmp_path):
    record = tmp_path / "detail.json"
    line = ["--network", str(network), "--data", str(openmoji32), "--num-images", "2"]
    line += ["--split", "all", "--steps", "2", "--json", str(record)]
    done = CliRunner().invoke(main, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    content = json.loads(record.read_text())
    rows = {row["picture"]: row for row in content["rows"]}
    assert list(rows) == ["projection", "lanczos", "bicubic", "truth"]
    assert content["from_px"] == 16 and content["to_px"] == 32 and content["num_images"] == 2
    assert rows["lanczos"]["psnr"] > rows["projection"]["psnr"]  # after two steps
    assert rows["projection"]["psnr_wins"] == rows["lanczos"]["psnr_wins"] == 0


def test_pictures_that_are_not_larger_are_refused(openmoji32, tmp_path):
    from networks.generators import preset
    from networks.snapshot import Snapshot

    Snapshot(preset("eidgan-tiny").build().eval(), "hashed", 32).save_pretrained(tmp_path / "x")
    line = ["--network", str(tmp_path / "x"), "--data", str(openmoji32), "--split", "all"]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 1 and "squares larger than 32 px are needed" in done.output
