"""EQ-T, EQ-T_frac and EQ-R: pictures that move, pictures that stick, and errors of known size."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from metrics.evaluations import EVALUATIONS
from metrics.measures.equivariance import Motion
from metrics.runner import evaluate
from networks.generators import preset
from networks.interfaces import Codes, Generator

SIDE = 32
MOTIONS = {"eqt": "translation", "eqt_frac": "fractional_translation", "eqr": "rotation"}


class Picture(Generator):
    """Draws a function of (x, y) in frame units, or of pixel numbers, whatever the latent."""

    latent_shape = (1, 1)
    config = SimpleNamespace(text_noise=0.0)

    def __init__(self, function, *, sticks=False):
        super().__init__(token_shape=(1, 1))
        self.function, self.sticks = function, sticks

    def mapping(self, z, text):
        return Codes(z, z[:, 0, :0])

    def prepare(self, codes, view):
        return len(codes), view

    def render(self, prepared, rows, columns):
        count, view = prepared
        if self.sticks:
            view = type(view).square(view.height)
        image = self.function(*view.points(rows, columns, torch.device("cpu")))
        return image.expand(count, 3, *image.shape[-2:])


def smooth(x, y):
    return 0.5 * torch.sin(12 * x + 5 * y) + 0.4 * torch.cos(9 * y - 4 * x)


@pytest.fixture
def score(subject, archive, encoders):
    def scored(name, generator, **options):
        one = replace(subject, generator=generator, resolution=SIDE)
        options = {"num": 6} | options
        # The archive of 16 x 16 gives prompts alone: these measures read no real pictures.
        (record,) = evaluate(one, archive, [EVALUATIONS[name]], encoders=encoders, **options)
        return record

    return scored


def test_a_function_of_the_place_is_equivariant(score):
    values = {name: score(name, Picture(smooth)) for name in MOTIONS}
    assert values["eqt"]["value"] == values["eqt"]["worst"] == 100
    assert values["eqt_frac"]["value"] > 55 and values["eqr"]["value"] > 50
    for record in values.values():
        assert record["unit"] == "dB" and record["worst"] <= record["value"]


def test_a_picture_that_sticks_to_its_pixels_has_the_error_of_its_slope(score):
    """z = a x + b y sticks: translation by (r, d) errs by (a r + b d) / S at every pixel."""
    a, b = 0.7, -0.4
    ramp = Picture(lambda x, y: a * x + b * y, sticks=True)
    for name in ("eqt", "eqt_frac"):
        errors, counts = [], []
        for index in range(6):
            right, down = Motion.drawn(MOTIONS[name], 0, SIDE, index).offset
            valid = np.array([SIDE - abs(right), SIDE - abs(down)])
            if name == "eqt_frac":  # taps that all lie in the picture
                places = np.arange(SIDE)[:, None] - [right, down]
                valid = ((places >= 3) & (places <= SIDE - 4)).sum(0)
            errors.append(((a * right + b * down) / SIDE) ** 2)
            counts.append(valid.prod())
        expected = 10 * math.log10(4 / np.average(errors, weights=counts))
        assert score(name, ramp)["value"] == pytest.approx(expected, abs=0.02)


def test_a_picture_that_does_not_turn_has_the_error_of_its_slope(score):
    """z = a x sticks: at the offset p from the middle it errs by a (p_x - (turn p)_x) / S."""
    ramp = Picture(lambda x, y: 0.8 * x, sticks=True)
    record = score("eqr", ramp, num=2)
    squares, count = 0.0, 0
    for index in range(2):
        turn = math.radians(Motion.drawn("rotation", 0, SIDE, index).degrees)
        sine, cosine = math.sin(turn), math.cos(turn)
        reach = math.ceil(3 + 3 * (abs(sine) + abs(cosine)))
        y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
        place = np.stack([cosine * x - sine * y, sine * x + cosine * y])
        inside = (abs(np.stack([x, y, *place])) <= (SIDE - 1) / 2 - reach).all(axis=0)
        squares += ((0.8 * (x - place[0]) / SIDE)[inside] ** 2).sum()
        count += inside.sum()
    assert record["value"] == pytest.approx(10 * math.log10(4 * count / squares), abs=0.05)


def test_motions_are_of_the_paper():
    drawn = [Motion.drawn("translation", 0, 64, i) for i in range(300)]
    assert {value for one in drawn for value in one.offset} == set(range(-8, 9))
    spread = np.array([Motion.drawn("fractional_translation", 0, 64, i).offset for i in range(300)])
    assert spread.min() < -7.5 and spread.max() > 7.5 and abs(spread).max() <= 8
    assert (spread != spread.round()).all()
    turns = np.array([Motion.drawn("rotation", 0, 64, i).degrees for i in range(300)])
    assert turns.min() < 10 and turns.max() > 350 and turns.max() < 360
    assert Motion.drawn("rotation", 0, 64, 3) != Motion.drawn("rotation", 1, 64, 3)


@pytest.mark.parametrize(
    "name, golden", [("eqt_frac", 29.69884), ("eqr", 30.26733), ("scale_x8", 33.89803)]
)
def test_golden_numbers_and_batches_change_nothing(score, name, golden):
    """A picture of a hard edge, whose resampling rings."""
    edge = Picture(lambda x, y: torch.where(x + 0.3 * y > 0.6, 0.8, -0.6) * (1 - y))
    values = [score(name, edge, batch_size=size)["value"] for size in (1, 4)]
    assert values[0] == values[1] == pytest.approx(golden, abs=1e-3)


def test_a_picture_that_is_too_small_and_a_network_of_one_size(score, subject, archive, encoders):
    with pytest.raises(UserError, match="eqr: pictures of at least 32 px a side are needed"):
        list(evaluate(subject, archive, [EVALUATIONS["eqr"]], encoders=encoders))
    one_size = preset("stylegan2-tiny").with_text(0, 0).build()
    for name in (*MOTIONS, "zoom_x4", "scale_x8"):
        record = score(name, one_size, num=2)
        assert record["value"] is None
        assert "stylegan2 network draws 32x32 of the whole frame only" in record["note"]
