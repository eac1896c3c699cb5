"""Translation and rotation of pictures: closed forms, waves, and what the filters keep."""

import math

import numpy as np
import pytest
import torch

from metrics.arithmetic.resampling import (
    PHASES,
    filter_reach,
    lanczos_shifted,
    pseudo_rotated,
    rotated,
    rotation_filter,
    shifted,
)
from networks.coordinates import View

SIDE = 48


def turn_by(degrees):
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def waves(x, y, reach=0.2):
    """Twelve waves of up to `reach` cycles a pixel; x, y in frames."""
    stream = torch.Generator().manual_seed(0)
    frequencies = (torch.rand(12, 2, generator=stream, dtype=torch.float64) * 2 - 1) * reach * SIDE
    phases = frequencies[:, 0] * x[..., None] + frequencies[:, 1] * y[..., None]
    return (2 * torch.pi * phases + torch.arange(12)).cos().sum(-1)[None] / 12


def seen(view, reach=0.2):
    x, y = view.points(slice(None), slice(None), torch.device("cpu"))
    return waves(x.double(), y.double(), reach)


def decibels(error):
    return 10 * math.log10(4 / error.square().mean().item())


def test_whole_pixels_are_moved():
    image = torch.arange(12.0, dtype=torch.float64).view(1, 4, 3).expand(2, 4, 3)[:, :3]
    moved, valid = shifted(image, (1, -2))
    assert moved[0].tolist() == [[0, 6, 7], [0, 0, 0], [0, 0, 0]]
    assert valid.tolist() == [[False, True, True], [False] * 3, [False] * 3]
    same, valid = shifted(image, (0, 0))
    assert torch.equal(same, image) and valid.all()


def test_lanczos_is_exact_at_whole_pixels_and_near_between():
    image = seen(View.square(SIDE))
    whole, valid = lanczos_shifted(image, (3.0, -2.0))
    wanted, _ = shifted(image, (3, -2))
    torch.testing.assert_close(whole[:, valid], wanted[:, valid])
    moved, valid = lanczos_shifted(image, (3.3, -4.6))
    wanted = seen(View.square(SIDE).transformed(translate=(3.3 / SIDE, -4.6 / SIDE)))
    assert decibels((moved - wanted)[:, valid]) > 50
    # Columns 6.3 to 47 and rows 3 - 4.6 to 44 - 4.6 have all their taps in the picture.
    rows, columns = valid.any(1).nonzero(), valid.any(0).nonzero()
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (7, 47, 0, 39)


@pytest.mark.parametrize("degrees", (17.0, 90.0, 123.0, 271.5))
def test_a_rotation_is_that_of_a_view(degrees):
    image = seen(View.square(SIDE))
    reference, valid = rotated(image, degrees)
    turned = seen(View.square(SIDE).transformed(rotate=degrees))
    result, inside = pseudo_rotated(turned, degrees)
    assert (valid & inside).sum() > SIDE**2 / 5
    assert decibels((result - reference)[:, valid & inside]) > 48
    mirrored = seen(View.square(SIDE).transformed(rotate=-degrees))
    other, _ = pseudo_rotated(mirrored, degrees)
    assert decibels((other - reference)[:, valid & inside]) < 25


def test_flat_pictures_stay_flat():
    image = torch.full((3, SIDE, SIDE), 0.7, dtype=torch.float64)
    for moved, valid in (rotated(image, 33.0), pseudo_rotated(image, 33.0)):
        torch.testing.assert_close(moved[:, valid], image[:, valid])


def test_the_filter_keeps_the_octagon_of_both_grids():
    """By the slow transform: near 1 well inside both squares, near 0 well outside one of them."""
    degrees = 25.0
    turn = turn_by(degrees)
    kernel = rotation_filter(turn)
    steps = np.arange(len(kernel)) / PHASES - filter_reach(turn)

    def gain(radius, angle):
        x, y = radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))
        along = np.cos(2 * np.pi * (x * steps + y * steps[:, None]))
        return (kernel * along).sum() / PHASES**2

    for angle in range(0, 180, 15):
        assert gain(0.2, angle) == pytest.approx(1, abs=0.02)
        assert abs(gain(0.85, angle)) < 0.01
    # At -25 degrees the second square ends at 0.5 and the first goes on to 0.55; at 25 degrees the
    # second goes on to 0.65.
    assert gain(0.53, -25) < gain(0.53, 25) - 0.1


def test_the_filter_of_no_rotation_is_that_of_one_grid():
    """Spectrum: the square itself. So the ideal part is sinc(x) sinc(y)."""
    kernel, reach = rotation_filter(np.eye(2)), filter_reach(np.eye(2))
    steps = np.arange(-reach * PHASES, reach * PHASES + 1) / PHASES
    fine = np.arange(-24, 25) / 8
    window = np.sinc(fine / 3) * (abs(fine) < 3)
    line = np.convolve(window, window)[::2]  # 97 samples of 1/8 px over -6..6, every second
    line = np.sinc(steps) * line / line.max()
    assert reach == 6 and np.abs(kernel - line[:, None] * line).max() < 2e-3
