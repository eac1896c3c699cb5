from __future__ import annotations

import pytest
import torch

from dnnlib.errors import UserError
from networks.coordinates import Axis, View, parse_size, parse_window
from networks.warps import Swirl


def test_centres_of_twice_the_samples_average_to_the_samples():
    view = View(height=5, width=7, box=(-0.25, 0.1, 1.5, 0.9))
    fine = view.scaled(2)
    torch.testing.assert_close(fine.rows().view(5, 2).mean(dim=1), view.rows())
    torch.testing.assert_close(fine.columns().view(7, 2).mean(dim=1), view.columns())


def test_conventions():
    assert View.square(4).columns().tolist() == [0.125, 0.375, 0.625, 0.875]
    assert View(height=3, width=3, convention="endpoints").rows().tolist() == [0.0, 0.5, 1.0]


def test_coordinates_are_made_on_their_device(monkeypatch):
    """A copy from the CPU synchronises in each forward and cannot be in a CUDA graph."""
    devices, arange = [], torch.arange

    def recorded(*sizes, device=None, **rest):
        devices.append(device)
        return arange(*sizes, device=device, **rest)

    monkeypatch.setattr(torch, "arange", recorded)
    assert (
        View.square(4).rows("meta").device.type == "meta"
        and View.square(4).columns().device.type == "cpu"
    )
    assert devices == [torch.device("meta"), torch.device("cpu")]


def test_a_window_samples_what_the_whole_samples_there():
    whole = View.square(64)
    part = View(height=16, width=32, box=(0.25, 0.5, 0.75, 0.75))
    torch.testing.assert_close(part.columns(), whole.columns()[16:48])
    torch.testing.assert_close(part.rows(), whole.rows()[32:48])


SAMPLES = ((1, "centers"), (7, "centers"), (32, "centers"), (33, "endpoints"))
AXES = [
    Axis(low, low + length, count, convention)
    for low in (0.0, 0.25, -0.5, 0.2, -8.0)
    for length in (1.0, 0.5, 0.3, 17.0)
    for count, convention in SAMPLES
]


@pytest.mark.parametrize("grid", [4, 16, 64])
def test_cells_under_a_view_are_those_of_its_samples(grid):
    """Computed from the numbers of the view, they equal those computed from every sample."""
    spans = 0
    for axis in AXES:
        found = (axis.samples(torch.device("cpu")) * grid).floor().long()
        span = axis.cells_under(grid)
        if span is None:  # samples at least a cell apart share no cell
            assert axis.count == 1 or (found.diff() > 0).all()
        else:
            assert found.unique().tolist() == list(span)
            spans += 1
    assert 0 < spans < len(AXES)


@pytest.mark.parametrize("grid", [8, 24, 32])
def test_samples_at_cell_centres_are_known(grid):
    assert View.square(grid).y_axis.cells_at(grid) == range(grid)
    assert View.square(2 * grid).y_axis.cells_at(grid) is None
    half = View(height=grid // 2, width=2 * grid, box=(-0.5, 0.25, 1.5, 0.75))
    assert half.y_axis.cells_at(grid) == range(grid // 4, 3 * grid // 4)
    assert half.x_axis.cells_at(grid) == range(-grid // 2, 3 * grid // 2)
    assert View(height=grid, width=grid, convention="endpoints").x_axis.cells_at(grid) is None
    for axis in AXES:
        if (cells := axis.cells_at(grid)) is not None:
            centres = (torch.tensor(cells) + 0.5) / grid
            torch.testing.assert_close(axis.samples(torch.device("cpu")), centres)


def test_parsing():
    assert parse_size("1000x600") == (1000, 600)
    assert parse_size("256") == (256, 256)
    assert parse_window("-0.5,0,1.5,1") == (-0.5, 0.0, 1.5, 1.0)
    assert parse_window("3:2") == (-0.25, 0.0, 1.25, 1.0)
    assert parse_window("2:3") == (0.0, -0.25, 1.0, 1.25)
    assert parse_window("1.5:1.5") == (0.0, 0.0, 1.0, 1.0)
    for text in ("1e300:1e-300", "3:0", "3:2:1", "1e400:1", "inf:inf", "1:nan", "nan:1", ":"):
        with pytest.raises(UserError, match="expected x0,y0,x1,y1"):
            parse_window(text)


def test_a_whole_picture_around_the_frame():
    view = View.around_frame(width=96, height=64)
    assert view == View(width=96, height=64, box=(-0.25, 0.0, 1.25, 1.0))
    frame = View.square(64)
    torch.testing.assert_close(view.columns()[16:80], frame.columns())
    torch.testing.assert_close(view.rows(), frame.rows())


@pytest.mark.parametrize(
    "view",
    [
        View.square(1000).transformed(zoom=5000),
        View.square(64).transformed(zoom=1e9, rotate=30),
        View(width=64, height=64, box=(0.5, 0.0, 0.5 + 1e-6, 1.0)),
        View(width=1000, height=1, box=(1e7, 0.0, 1e7 + 100, 1.0)),
    ],
)
def test_pixels_that_float32_cannot_tell_apart(view):
    with pytest.raises(UserError, match="cannot tell apart; use a smaller size"):
        view.check_steps()


def test_pixels_that_float32_tells_apart():
    View(width=1 << 20, height=1 << 20).check_steps()
    for zoom in (1e-6, 1, 3000):
        View.square(1000).transformed(zoom=zoom, rotate=30, warp=Swirl()).check_steps()


@pytest.mark.parametrize("text", ["0x5", "5x0", "x", "5x", "axb", "-3", "1x2x3", ""])
def test_bad_sizes(text):
    with pytest.raises(UserError, match="expected WIDTHxHEIGHT"):
        parse_size(text)


@pytest.mark.parametrize(
    "text",
    [
        *("0,0,1", "0,0,0,1", "1,0,0,1", "a,b,c,d", "nan,0,1,1", "0,0,inf,1"),
        *("3:0", "3:", "a:b", "-3:2", "3:2:1", "nan:1", "inf:1", "0,0:1,1", ""),
    ],
)
def test_bad_windows(text):
    with pytest.raises(UserError, match="x0,y0,x1,y1.* or the shape W:H"):
        parse_window(text)


def test_empty_views_are_refused():
    with pytest.raises(UserError):
        View(height=0, width=3)
    with pytest.raises(UserError):
        View(height=3, width=3, box=(0, 0, 0, 1))
