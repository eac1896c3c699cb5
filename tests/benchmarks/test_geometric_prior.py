"""Boxes of drawings, ridge regression with known answers, and which features of a network know a
place.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import geometric_prior
from benchmarks.geometric_prior import box_of, held_out_scores, main
from datasets.text_image import TextImageDataset
from networks.generators import preset
from networks.snapshot import Snapshot


def drawing(top, left, bottom, right, side=16):
    image = torch.full((3, side, side), 250, dtype=torch.uint8)
    image[1, top:bottom, left:right] = 40
    return image


def test_the_box_is_that_of_the_drawing():
    np.testing.assert_allclose(
        box_of(drawing(2, 3, 9, 14), 0.15), [3 / 16, 2 / 16, 14 / 16, 9 / 16]
    )
    dotted = drawing(2, 3, 9, 14)
    dotted[:, 12, 1] = 0  # one pixel is no part of a drawing
    np.testing.assert_allclose(box_of(dotted, 0.15), box_of(drawing(2, 3, 9, 14), 0.15))
    assert box_of(drawing(0, 3, 9, 14), 0.15) is None  # it may go on beyond the frame
    assert box_of(drawing(2, 3, 2, 3), 0.15) is None
    faint = torch.full((3, 16, 16), 250, dtype=torch.uint8)
    faint[:, 4:8, 4:8] = 230
    assert box_of(faint, 0.15) is None and box_of(faint, 0.05) is not None


def test_boxes_of_real_drawings_lie_within_the_frame(openmoji32):
    dataset = TextImageDataset(openmoji32, split="all")
    boxes = [box_of(dataset[i].image, 0.15) for i in range(len(dataset))]
    measured = np.stack([box for box in boxes if box is not None])
    assert len(measured) > 0.8 * len(boxes)
    assert (measured[:, 2:] - measured[:, :2] > 0.1).all()


def test_the_regression_finds_lines_and_nothing_in_noise():
    stream = np.random.default_rng(1)
    features = stream.standard_normal((200, 20))
    boxes = features @ stream.standard_normal((20, 4))
    exact = held_out_scores(features, boxes)
    assert exact["r2"] > 0.9999 and exact["num_train"] == 140 and exact["num_test"] == 60
    # Half of the variance is noise; the best R2 is 0.5.
    noisy = boxes + stream.standard_normal(boxes.shape) * boxes.std(axis=0)
    assert 0.3 < held_out_scores(features, noisy)["r2"] < 0.6
    other = held_out_scores(stream.standard_normal((200, 500)), boxes)
    assert -0.1 < other["r2"] < 0.1 and other["penalty"] > 1


def test_it_is_ridge_regression_of_features_of_unit_variance():
    """Against the closed form in primal, with the penalty that was chosen."""
    stream = np.random.default_rng(2)
    features = stream.standard_normal((60, 5)) * [1, 10, 0.1, 3, 1] + 4
    boxes = features @ stream.standard_normal((5, 4)) + stream.standard_normal((60, 4))
    found = held_out_scores(features, boxes)
    order = np.random.default_rng(0).permutation(60)
    test, train = order[:18], order[18:]
    scaled = (features - features[train].mean(0)) / features[train].std(0)
    unit = np.square(scaled[train]).sum(1).mean()
    x, y = scaled[train], boxes[train] - boxes[train].mean(0)
    weights = np.linalg.solve(x.T @ x + found["penalty"] * unit * np.eye(5), x.T @ y)
    wanted = boxes[test] - boxes[train].mean(0)
    errors = np.square(scaled[test] @ weights - wanted).sum(0)
    expected = 1 - errors / np.square(wanted).sum(0)
    np.testing.assert_allclose([found[name] for name in geometric_prior.CORNERS], expected)


@pytest.fixture
def icons(tmp_path, monkeypatch):
    """A network whose pictures show a rectangle that its first style code places."""
    torch.manual_seed(0)
    generator = preset("eidgan-tiny").build().eval()
    Snapshot(generator, "hashed", 32).save_pretrained(tmp_path / "icons")

    def synthesis(self, codes, view):
        places = codes.tokens[:, 0, :2].sigmoid() * 8
        pictures = torch.ones(len(codes), 3, 32, 32)
        for picture, (x, y) in zip(pictures, places.round().int().tolist(), strict=True):
            picture[:, 4 + y : 20 + y, 4 + x : 20 + x] = -1
        return pictures

    monkeypatch.setattr(type(generator), "synthesis", synthesis)
    return tmp_path / "icons"


def test_codes_that_place_a_drawing_are_found(icons, openmoji32, tmp_path):
    record = tmp_path / "prior.json"
    line = ["--network", str(icons), "--data", str(openmoji32), "--num-images", "120"]
    done = CliRunner().invoke(main, [*line, "--json", str(record)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    content = json.loads(record.read_text())
    r2 = {row["features"]: row["r2"] for row in content["rows"]}
    assert r2["codes"] > 0.7 > 0.3 > r2["noise"]
    assert {"latents", "sentence", "lines", "untrained codes", "untrained lines"} < set(r2)
    assert content["measurable"]["generated"] == [120, 120]


def test_pictures_without_boxes_are_refused(network, openmoji32):
    line = ["--network", str(network), "--data", str(openmoji32), "--num-images", "50"]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 1 and "of 50 pictures have a bounding box" in done.output
