from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from networks.coordinates import View
from networks.generators.style import to_output
from networks.layers.comparison import Comparison
from networks.layers.conv import EqualConv2d, low_pass
from networks.layers.cross_attention import CrossAttentionModulation
from networks.layers.fourier_lines import FourierLines
from networks.layers.linear import EqualLinear
from networks.layers.minibatch_stddev import minibatch_stddev
from networks.layers.modulated import SpectralGain


def literal_attention_modulation(layer, x, tokens, mask):
    """Eq. 7 and 8 as printed, with q, a, gamma and beta made for every position."""
    normalised = functional.layer_norm(x, x.shape[-1:])

    def heads(t):
        return t.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)

    query, key, value = (
        heads(layer.query(normalised)),
        heads(layer.key(tokens)),
        heads(layer.value(tokens)),
    )
    scores = query @ key.transpose(2, 3) / math.sqrt(layer.head_dim)
    scores = scores.masked_fill(~mask[:, None, None], -math.inf)
    attended = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
    return layer.gamma(attended) * normalised + layer.beta(attended)


def test_folded_attention_equals_the_literal_form():
    torch.manual_seed(0)
    layer = CrossAttentionModulation(12, 6, attention_dim=8, num_heads=2)
    for parameter in layer.parameters():
        parameter.data = torch.randn_like(parameter)
    x, tokens = torch.randn(3, 10, 12), torch.randn(3, 5, 6)
    mask = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    expected = literal_attention_modulation(layer, x, tokens, mask)
    assert (layer(x, tokens, mask) - expected).abs().max() / expected.abs().max() < 1e-5


def test_place_moves_and_scales_the_coordinates_of_each_sample():
    """The lines equal those of another box, because the change of coordinates is affine:
    u' = 1/2 + (u - 1/2) 2^(tanh(a) / 2) + 0.15 tanh(b).
    """
    torch.manual_seed(0)
    lines, view = FourierLines(6, 2, 1.5, place_dim=3), View(height=7, width=5)
    style = torch.randn(4, 3)
    placed = lines(view, style)
    assert lines.place is not None
    given = lines.place(style).tanh()
    lines.place = None
    for sample, numbers in zip(placed, given.tolist(), strict=True):
        row_octaves, column_octaves, row_shift, column_shift = numbers

        def ends(octaves, shift):
            return [0.5 + (u - 0.5) * 2 ** (0.5 * octaves) + 0.15 * shift for u in (0.0, 1.0)]

        (y0, y1), (x0, x1) = ends(row_octaves, row_shift), ends(column_octaves, column_shift)
        expected = lines(View(height=7, width=5, box=(x0, y0, x1, y1)), style)
        torch.testing.assert_close(sample, expected, atol=1e-5, rtol=1e-5)
    assert (placed[0] - placed[1]).abs().max() > 0.1


def test_masked_words_have_no_influence():
    layer = CrossAttentionModulation(8, 6, attention_dim=8, num_heads=2)
    x, tokens = torch.randn(2, 4, 8), torch.randn(2, 5, 6)
    mask = torch.tensor([[True, True, False, False, False]] * 2)
    changed = tokens.clone()
    changed[:, 2:] = 100.0
    assert torch.equal(layer(x, tokens, mask), layer(x, changed, mask))


def test_spectral_gain_starts_as_the_identity():
    gain = SpectralGain(5, 8)(torch.randn(3, 5))
    assert gain.shape == (3, 5) and torch.equal(gain, torch.ones(3, 5, dtype=torch.complex64))


@pytest.mark.parametrize("down", ["box", "binomial"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_folded_downsampling_equals_filter_after_convolution(down, kernel):
    layer = EqualConv2d(3, 4, kernel, activate=False, bias=False, down=down)
    x = torch.randn(2, 3, 16, 16)
    full = functional.conv2d(x, layer.weight * layer.weight_gain, padding=kernel // 2)
    taps = low_pass(down)
    filtered = functional.conv2d(
        full, taps.expand(4, 1, -1, -1), stride=2, padding=len(taps) // 2 - 1, groups=4
    )
    y = layer(x)
    assert y.shape == (2, 4, 8, 8)
    # The padding differs, so the border is left out.
    torch.testing.assert_close(y[..., 2:-2, 2:-2], filtered[..., 2:-2, 2:-2])


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_box_before_a_convolution_equals_the_folded_kernel(kernel):
    """The forms for CPU and GPU are equal for every pixel, also in their second derivatives."""
    layer, results = EqualConv2d(3, 4, kernel, down="box", scale=0.5), []
    x, weight = torch.randn(2, 3, 16, 16, requires_grad=True), torch.randn(2, 4, 8, 8)
    for layer.is_box in (True, False):
        y = layer(x)
        (first,) = torch.autograd.grad((y * weight).sum(), x, create_graph=True)
        results.append([y, first, *torch.autograd.grad(first.square().sum(), layer.weight)])
    for box, folded in zip(*results, strict=True):
        torch.testing.assert_close(box, folded, rtol=1e-5, atol=1e-6)
    whole = EqualConv2d(3, 4, kernel, down="box")
    whole.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), whole(x) * 0.5)


def test_minibatch_deviation_is_zero_for_equal_samples_and_grouped():
    same = torch.randn(1, 3, 4, 4).expand(4, -1, -1, -1)
    different = torch.randn(4, 3, 4, 4)
    out = minibatch_stddev(torch.cat([same, different]), 4)
    assert out.shape == (8, 4, 4, 4)
    assert out[:4, 3].max() < 1e-3
    expected = different.var(dim=0, unbiased=False).sqrt().mean()
    torch.testing.assert_close(out[4:, 3], expected.expand(4, 4, 4), atol=1e-4, rtol=1e-4)


def test_attention_in_16_bits_is_as_good_as_its_literal_form():
    """Error against float64 at most that of the literal form under autocast."""
    torch.manual_seed(0)
    layer = CrossAttentionModulation(96, 24, attention_dim=32, num_heads=4)
    for parameter in layer.parameters():
        parameter.data = torch.randn_like(parameter)
    x, tokens = torch.randn(3, 50, 96).bfloat16(), torch.randn(3, 5, 24)
    mask = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        actual = layer(x, tokens, mask)
        literal = literal_attention_modulation(layer, x, tokens, mask)
    exact = literal_attention_modulation(layer.double(), x.double(), tokens.double(), mask)
    assert actual.dtype == torch.bfloat16
    assert (actual - exact).norm() <= (literal - exact).norm() < 0.05 * exact.norm()


def test_affines_of_few_rows_stay_in_float32_under_autocast():
    y = torch.randn(3, 16)
    layer = EqualLinear(16, 8, activate=True, bias_init=0.5, lr_multiplier=0.1)
    weight, bias = layer.folded()
    expected = functional.leaky_relu(functional.linear(y, weight, bias), 0.2)
    with torch.autocast("cpu", torch.bfloat16):
        actual, rounded = layer.single(y), layer(y)
    torch.testing.assert_close(actual, expected)
    assert actual.dtype == torch.float32 and rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), expected, rtol=0.02, atol=0.02)


def test_samples_are_compared_with_the_others_of_their_group():
    torch.manual_seed(0)
    compare, features = Comparison(6, 3, group_size=3), torch.randn(6, 6)
    points = (features @ compare.project.weight.T).view(6, 3, 4)
    likeness = torch.stack([(-(points[4] - points[j]).abs().sum(dim=1)).exp() for j in (3, 5)])
    torch.testing.assert_close(compare(features)[4, 0], likeness.mean(dim=0) @ compare.weight)
    alone = compare(features[:1])
    assert alone.shape == (1, 1) and not alone.any()
    alike = compare(features[:1].expand(3, -1))
    torch.testing.assert_close(alike, compare.weight.sum().expand(3, 1))  # the largest similarity


def test_clip_cuts_off_and_its_gradient_leads_back():
    """The gradient passes within +-1.25; beyond, only where a step against it leads back."""
    image = torch.tensor([-2.0, -2, -1.1, 0.5, 1.1, 2, 2], requires_grad=True)
    out = to_output(image, "clip")
    torch.testing.assert_close(out, torch.tensor([-1.0, -1, -1, 0.5, 1, 1, 1]))
    pull = torch.tensor([1.0, -1, 1, 1, -1, -1, 1])
    (gradient,) = torch.autograd.grad(out, image, pull)
    torch.testing.assert_close(gradient, torch.tensor([0.0, -1, 1, 1, -1, 0, 1]))
    with torch.no_grad():
        torch.testing.assert_close(to_output(image, "clip"), out)


def test_clip_has_true_derivatives_inside():
    image = torch.linspace(-0.9, 0.9, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: to_output(x, "clip"), image)
    assert torch.autograd.gradgradcheck(lambda x: to_output(x, "clip") ** 2, image)


def test_a_generator_that_draws_white_returns_from_it():
    """Twenty steps away from white; with the derivative of a plain clip, none would move."""
    image = torch.full((8,), 1.2, requires_grad=True)
    optimizer = torch.optim.SGD([image], lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        to_output(image, "clip").square().mean().backward()
        optimizer.step()
    assert image.abs().max() < 0.1
