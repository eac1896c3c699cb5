from __future__ import annotations

import math

import pytest
import torch

from torch_utils.ops.biline import biline_compose, biline_decode
from torch_utils.ops.haar_wavelet import haar_wavelet


def test_compose_equals_explicit_sum():
    rows, columns = torch.randn(2, 3, 4, 5), torch.randn(2, 6, 4, 5)
    features = biline_compose(rows, columns)
    for h in range(3):
        for w in range(6):
            expected = (rows[:, h] * columns[:, w]).sum(dim=1) / 2
            torch.testing.assert_close(features[:, h, w], expected)


def test_decode_equals_literal_form():
    g = torch.Generator().manual_seed(0)
    phi = torch.randn(2, 3, 4, 5, generator=g)
    rows, columns = torch.randn(2, 3, 2, 5, generator=g), torch.randn(2, 4, 2, 5, generator=g)
    weights = [torch.randn(7, 5, generator=g), torch.randn(5, 7, generator=g)]
    biases = [torch.randn(7, generator=g), torch.randn(5, generator=g)]
    hidden = phi
    for weight, bias in zip(weights, biases, strict=True):
        hidden = hidden @ weight.T + bias
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    expected = (hidden + biline_compose(rows, columns)) * math.sqrt(0.5)
    torch.testing.assert_close(biline_decode(phi, rows, columns, weights, biases), expected)


def test_haar_is_orthonormal_and_inverts():
    x = torch.randn(2, 3, 6, 10, dtype=torch.float64)
    bands = haar_wavelet(x)
    torch.testing.assert_close(bands.square().sum(), x.square().sum())
    ll, lh, hl, hh = bands.chunk(4, dim=1)
    torch.testing.assert_close((ll + lh + hl + hh) / 2, x[..., 0::2, 0::2])
    torch.testing.assert_close((ll - lh - hl + hh) / 2, x[..., 1::2, 1::2])
    torch.testing.assert_close(bands[:, :3] * 0.5, torch.nn.functional.avg_pool2d(x, 2))


def test_vertical_edges_are_in_the_band_lh():
    vertical_edges = torch.tensor([1.0, -1.0]).repeat(3).expand(1, 1, 4, 6)  # changes along x
    ll, lh, hl, hh = haar_wavelet(vertical_edges).unbind(dim=1)
    assert (lh == 2).all() and not ll.any() and not hl.any() and not hh.any()


def test_haar_refuses_odd_sizes():
    with pytest.raises(ValueError, match="even"):
        haar_wavelet(torch.zeros(1, 3, 5, 4))
