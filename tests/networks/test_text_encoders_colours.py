"""Colour shares of pictures, against hand-made pictures."""

from __future__ import annotations

import torch

from networks.text_encoders.colours import LEVELS, NUM_SHARES, RADII, ColourShares


def _shares(image):
    found = ColourShares()(image[None])
    assert found.shape == (1, NUM_SHARES)
    return found.square().view(len(RADII) + 2, LEVELS, LEVELS, LEVELS)


def test_a_flat_picture_has_one_colour_in_every_region():
    red = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 48, 64)
    shares = _shares(red)
    assert (shares[:, -1, 0, 0] > 0.85).all()  # the next anchors are 2.5 standard deviations away
    torch.testing.assert_close(
        shares.flatten(1).sum(1), torch.ones(len(RADII) + 2), atol=2e-4, rtol=0
    )


def test_a_yellow_middle_is_told_from_a_white_border():
    image = torch.ones(3, 64, 64)
    at = (torch.arange(64) + 0.5) / 64 - 0.5
    image[2, at[:, None].square() + at.square() < 0.2**2] = -1.0
    whole, middle, _, outer, corners = _shares(image)
    assert middle[-1, -1, 0] > 0.85 and middle[-1, -1, -1] < 0.05
    assert outer[-1, -1, -1] > 0.85 and corners[-1, -1, -1] > 0.85
    area = 3.1416 * 0.2**2  # pixels on the edge are mixed, hence the tolerance
    assert abs(whole[-1, -1, 0] / whole[-1, -1].sum() - area) < 0.03


def test_gradients_are_finite_where_a_colour_is_absent():
    image = torch.full((2, 3, 32, 32), -1.0, requires_grad=True)
    ColourShares()(image).sum().backward()
    assert image.grad.isfinite().all() and image.grad.abs().sum() > 0
