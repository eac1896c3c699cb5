"""A zoomed view against the crop of a large render: exact for waves, known for a shift."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from metrics.evaluations import EVALUATIONS
from metrics.measures.zoom_consistency import ZoomConsistency
from metrics.runner import evaluate

ZOOM = EVALUATIONS["zoom_x4"]


def score(subject, archive, encoders, **options):
    (record,) = evaluate(subject, archive, [ZOOM], encoders=encoders, **({"num": 8} | options))
    return record


def test_waves_are_the_same_in_a_zoom(subject, archive, encoders):
    record = score(subject, archive, encoders)
    assert record["value"] == record["worst"] == 100 and record["unit"] == "dB"
    assert subject.generator.num_rendered == 2 * 8


def test_a_zoom_that_is_a_pixel_off_has_the_error_of_a_pixel(subject, archive, encoders):
    """Every zoomed view lies a pixel to the right: the ramp 2 x - 1 is off by 2 / 4S there."""
    generator, side = subject.generator, subject.resolution

    def prepare(codes, view):
        x0, y0, x1, y1 = view.box
        if x1 - x0 < 1:
            step = 1 / (4 * side)
            view = replace(view, box=(x0 + step, y0, x1 + step, y1))
        return len(codes), view

    def render(prepared, rows, columns):
        count, view = prepared
        x, _ = view.points(rows, columns, torch.device("cpu"))
        return (2 * x - 1).expand(count, 3, *x.shape)

    generator.prepare, generator.render = prepare, render
    # In [0, 1] the step is 1 / 4S; the last column is clamped where the window ends at the frame.
    record = score(subject, archive, encoders)
    assert record["value"] == pytest.approx(20 * math.log10(4 * side), abs=0.1)


def test_windows_lie_everywhere_and_depend_on_seed_and_index_alone():
    measure = ZoomConsistency(factor=4)
    corners = np.array([measure.corner(0, 16, i) for i in range(400)])
    assert corners.min() == 0 and corners.max() == 48 and len(np.unique(corners)) == 49
    assert measure.corner(0, 16, 5) != measure.corner(1, 16, 5)
