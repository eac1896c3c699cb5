"""`Warp` and `View.transformed` without a network: points, order, files, and what is refused."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.view_options import ViewOptions, parse_pair
from networks.warps import Field, Fisheye, Swirl, Warp, Wave, parse_displacement

SQUARE = View.square(8)
CPU, ALL = torch.device("cpu"), slice(None)


def at(view, x, y):
    """The content that the point (x, y) of the picture shows."""
    if view.warp is None:
        x0, y0, x1, y1 = view.box  # of a view whose box was the frame
        return pytest.approx((x0 + (x1 - x0) * x, y0 + (y1 - y0) * y), abs=1e-12)
    moved = view.warp(
        torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    )
    return pytest.approx(tuple(value.item() for value in moved), abs=1e-12)


def test_zoom_and_translation_are_another_box():
    assert SQUARE.transformed(zoom=2) == View(height=8, width=8, box=(0.25, 0.25, 0.75, 0.75))
    moved = SQUARE.transformed(zoom=4, center=(1, 0), translate=(0.5, -0.25))
    assert moved == View(height=8, width=8, box=(0.625, 0.0625, 0.875, 0.3125))
    assert SQUARE.transformed(zoom=0.5).transformed(zoom=2) == SQUARE


def test_rotation_is_counter_clockwise_and_keeps_the_center():
    assert at(SQUARE.transformed(rotate=90), 0.0, 0.0) == (1.0, 0.0)
    assert at(SQUARE.transformed(rotate=-90), 0.0, 0.0) == (0.0, 1.0)
    assert at(SQUARE.transformed(rotate=37, zoom=3, shear=1, center=(0.2, 0.7)), 0.2, 0.7) == (
        0.2,
        0.7,
    )
    x, y = SQUARE.transformed(rotate=450).points(slice(0, 1), slice(0, 3), CPU)
    assert x.tolist() == [[0.9375] * 3] and y.tolist() == [[0.0625, 0.1875, 0.3125]]


def test_the_order_is_warp_shear_rotate_zoom_translate():
    whole = SQUARE.transformed(
        zoom=2, center=(0.4, 0.6), rotate=30, translate=(0.1, 0.2), shear=0.3, warp=Wave()
    )
    steps = SQUARE.transformed(warp=Wave()).transformed(shear=0.3, center=(0.4, 0.6))
    steps = steps.transformed(rotate=30, center=(0.4, 0.6)).transformed(zoom=2, center=(0.4, 0.6))
    steps = steps.transformed(translate=(0.1, 0.2))
    for one, other in zip(whole.points(ALL, ALL, CPU), steps.points(ALL, ALL, CPU), strict=True):
        torch.testing.assert_close(one, other)
    swapped = SQUARE.transformed(translate=(0.1, 0.2)).transformed(zoom=2, center=(0.4, 0.6))
    assert swapped.box != SQUARE.transformed(zoom=2, center=(0.4, 0.6), translate=(0.1, 0.2)).box
    assert at(SQUARE.transformed(shear=0.5), 0.75, 1.0) == (0.5, 1.0)
    with pytest.raises(UserError, match="warp swirl: must be the first"):
        SQUARE.transformed(rotate=5).transformed(warp=Swirl())


@pytest.mark.parametrize("warp", [Swirl(), Fisheye(), Wave()], ids=lambda warp: warp.name)
def test_displacements_are_smooth_one_to_one_and_stay_in_their_reach(warp):
    view = View(height=200, width=200, box=(-0.5, -0.3, 1.4, 1.6)).transformed(warp=warp)
    x, y = view.points(ALL, ALL, CPU)
    x0, y0, x1, y1 = view.reach()
    assert x0 <= x.min() and x.max() <= x1 and y0 <= y.min() and y.max() <= y1
    (x_down, x_right), (y_down, y_right) = torch.gradient(x), torch.gradient(y)
    assert (x_right * y_down - x_down * y_right).min() > 0  # no fold: the area keeps its sign
    middle = torch.tensor([0.5]).double()
    assert warp(middle, middle) == (middle, middle)


def test_swirl_and_fisheye_by_their_equations():
    far = torch.tensor([1.5]).double()
    assert Swirl()(far, far) == (far, far) and Fisheye()(far, far) == (far, far)
    right, middle = torch.tensor([0.6]).double(), torch.tensor([0.5]).double()
    x, y = Swirl(degrees=90)(right, middle)
    angle = math.pi / 2 * (1 - 0.1 / math.sqrt(0.5)) ** 2
    assert (x.item(), y.item()) == pytest.approx(
        (0.5 + 0.1 * math.cos(angle), 0.5 + 0.1 * math.sin(angle))
    )
    x, _ = Fisheye(strength=0.5)(right, middle)
    assert x.item() == pytest.approx(0.5 + 0.1 * (1 - 0.5 * (1 - 0.02)))


def test_a_field_is_bilinear_between_its_samples_and_constant_outside(tmp_path):
    values = np.zeros((2, 4, 2))
    values[0, 0], values[0, 1], values[1, 0] = (0.1, 0.0), (0.3, 0.0), (0.0, 0.5)
    np.save(tmp_path / "field.npy", values)
    field = parse_displacement(str(tmp_path / "field.npy"))
    view = SQUARE.transformed(warp=field)
    assert field == Field(torch.from_numpy(values).float()) and view == SQUARE.transformed(
        warp=field
    )
    for (x, y), (dx, dy) in {
        (0.125, 0.25): (0.1, 0.0), (0.25, 0.25): (0.2, 0.0), (0.125, 0.5): (0.05, 0.25),
        (-3.0, -3.0): (0.1, 0.0), (-3.0, 9.0): (0.0, 0.5),
    }.items():  # fmt: skip
        moved = field(torch.tensor([x]), torch.tensor([y]))
        assert [value.item() for value in moved] == pytest.approx([x + dx, y + dy], abs=1e-6)
    assert view.reach() == pytest.approx((0, 0, 1.3, 1.5))


def test_reach_of_a_rotated_view():
    half = math.sqrt(0.5)
    assert SQUARE.transformed(rotate=45).reach() == pytest.approx(
        (0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half)
    )
    assert View(height=1, width=1, box=(3, 3, 4, 4)).transformed(warp=Swirl()).reach() == (
        3,
        3,
        4,
        4,
    )
    assert Warp().reach((0, 1, 2, 3)) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "options, line",
    [
        ({"zoom": 0.0}, "zoom 0.0: must be a finite number above 0"),
        ({"zoom": -2.0}, "zoom -2.0: must be a finite number above 0"),
        ({"zoom": math.nan}, "zoom nan: must be a finite number above 0"),
        ({"zoom": math.inf}, "zoom inf: must be a finite number above 0"),
        ({"rotate": math.nan}, "rotate nan: must be a finite number"),
        ({"shear": math.inf}, "shear inf: must be a finite number"),
        ({"center": "0.5"}, "center '0.5': expected two numbers X,Y"),
        ({"translate": "1,nan"}, "translate '1,nan': expected two numbers X,Y"),
        ({"window": "0,0,0,1"}, "window '0,0,0,1': expected x0,y0,x1,y1"),
        ({"window": "0,1,1,1"}, "window '0,1,1,1': expected x0,y0,x1,y1"),
        (
            {"warp": "swril"},
            "warp 'swril': is neither a known warp nor a .npy file; did you mean 'swirl'",
        ),
        ({"warp": "no.npy"}, "warp no.npy: is not a readable .npy file of numbers .No such file"),
        ({"zoom": 1e30, "window": "5,5,6,6"}, "zoom 1e.30: nothing is left of the window"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, line):
    with pytest.raises(UserError, match=line) as caught:
        ViewOptions(**options).view()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, line",
    [
        (np.zeros((4, 4)), "expected floats of shape .H, W, 2., .* of shape .4, 4"),
        (np.zeros((4, 4, 3)), "got float64 of shape .4, 4, 3"),
        (np.zeros((0, 4, 2)), "of shape .0, 4, 2"),
        (np.zeros((4, 4, 2), dtype=np.int64), "got int64 of shape .4, 4, 2"),
        (np.zeros((4, 4, 2), dtype=complex), "got complex128"),
        (np.array([[[0, math.nan]]]), "holds NaN or infinite"),
        (np.array([[[0, 1e300]]]), "holds NaN or infinite"),  # infinite as a float32
        (
            np.array([[[0, None]]], dtype=object),
            "not a readable .npy file of numbers .Object arrays",
        ),
        (pickle.dumps([1, 2]), "not a readable .npy file of numbers"),
        (b"", "not a readable .npy file of numbers"),
        (b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', ", "not a readable .npy file of numbers"),
        ("folder", "not a readable .npy file of numbers .Is a directory"),
    ],
)
def test_bad_fields_are_refused_in_one_line(tmp_path, content, line):
    path = tmp_path / "field.npy"
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.mkdir()
    with pytest.raises(UserError, match=line) as caught:
        parse_displacement(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_options_that_were_given_are_facts_of_a_picture():
    assert ViewOptions().facts() == {"window": "0.0,0.0,1.0,1.0"}
    facts = ViewOptions(zoom=2.0, warp="wave", exact=True).facts()
    assert facts["view"] == "zoom=2.0 warp=wave exact=True"
    assert parse_pair("center", " 0.25, -1") == (0.25, -1.0)
