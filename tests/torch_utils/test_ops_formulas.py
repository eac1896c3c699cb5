"""The registered operators: values, derivatives of every promised order, opcheck, compilation.

Values are compared with plain PyTorch.
"""

from __future__ import annotations

import pytest
import torch

from networks.coordinates import View
from networks.generators import preset
from networks.interfaces import TextFeatures
from torch_utils.ops import biline
from torch_utils.ops.backend import using
from torch_utils.ops.biline import (
    biline_decode,
    biline_render,
    formula,
    pack_pixels,
    reference,
    tiles,
)
from torch_utils.ops.biline.packing import mlp_shapes, num_numbers, pack, refinement_shapes, unpack
from torch_utils.ops.modulated_linear import formula as linear_formula
from torch_utils.ops.modulated_linear import modulated_linear, modulated_weights, samples
from torch_utils.ops.modulated_linear import reference as linear_reference

OPS = torch.ops.eidgan


def maker(seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=g, dtype=dtype)


def linear_case(n=2, p=3, c=6, o=4, spectral=True, dtype=torch.float64):
    rand = maker(dtype=dtype)
    spectrum = torch.complex(rand(n, c // 2 + 1), rand(n, c // 2 + 1)) if spectral else None
    return [rand(n, p, c), rand(o, c), rand(n, c), rand(o), spectrum]


def registered_linear(x, weight, style, bias, spectrum=None, demodulate=True, activate=True):
    return linear_formula.modulated_linear(
        x,
        weight,
        style,
        bias,
        spectrum=spectrum,
        demodulate=demodulate,
        activate=activate,
        gain=linear_reference.LEAKY_GAIN if activate else 1.0,
    )


def decode_case(n=2, h=3, w=4, d=2, widths=(3, 5, 3), dtype=torch.float64):
    rand = maker(dtype=dtype)
    return [
        rand(n, h, w, widths[0]),
        rand(n, h, d, widths[0]),
        rand(n, w, d, widths[0]),
        rand(num_numbers(mlp_shapes(widths))),
    ], list(widths)


def test_packed_layers_come_back_and_begin_at_multiples_of_eight():
    rand, shapes = maker(), [(3, 5), (8, 3), (9, 8)]
    layers = [(rand(2, o, c), rand(o)) for o, c in shapes]
    numbers = pack(*zip(*layers, strict=True))
    assert numbers.shape == (2, num_numbers(shapes)) == (2, 8 * 6 + 8 * 4 + 16 * 9)
    for (weight, bias), (same_weight, same_bias) in zip(
        layers, unpack(numbers, shapes), strict=True
    ):
        assert torch.equal(weight, same_weight) and torch.equal(bias.expand(2, -1), same_bias)
    assert numbers[:, 3 * 5 : 8 * 5].abs().max() == 0
    assert numbers[:, 8 * 5 + 3 : 8 * 6].abs().max() == 0


def with_grad(tensors):
    return [t.clone().requires_grad_() for t in tensors if t is not None]


@pytest.mark.parametrize("channels", [6, 7])
@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_linear_derivatives(channels, spectral, demodulate):
    inputs = with_grad(linear_case(c=channels, spectral=spectral))

    def op(*tensors):
        return registered_linear(*tensors, demodulate=demodulate)

    assert torch.equal(
        op(*inputs),
        linear_reference.modulated_linear(
            *inputs[:4], spectrum=inputs[4] if spectral else None, demodulate=demodulate
        ),
    )
    assert torch.autograd.gradcheck(op, inputs)
    assert torch.autograd.gradgradcheck(op, inputs, fast_mode=True)


def test_modulated_linear_has_a_third_derivative():
    inputs = with_grad(linear_case(n=1, p=2, c=4, o=2))

    def gradient_norm(*tensors):
        grads = torch.autograd.grad(
            registered_linear(*tensors).sum(), tensors[1:3], create_graph=True
        )
        return sum(g.square().sum() for g in grads)

    assert torch.autograd.gradgradcheck(gradient_norm, inputs)


@pytest.mark.parametrize(
    "channels,spectral,demodulate",
    [(6, True, True), (7, True, False), (7, False, True), (6, False, False)],
)
def test_the_backward_of_the_weights_has_derivatives(channels, spectral, demodulate):
    """Values equal autograd's gradients of the plain form; derivatives, finite differences."""
    _, weight, style, _, spectrum = linear_case(c=channels, spectral=spectral)
    parts = torch.view_as_real(spectrum) if spectral else None
    grad, *inputs = with_grad([maker(1)(2, 4, channels), weight, style, parts])

    def op(grad, weight, style, parts=None):
        results = OPS.modulated_weights_backward(grad, weight, style, parts, demodulate, 1.4)
        return results[: len(inputs)]

    plain = linear_reference.modulated_weights(
        *inputs[:2],
        torch.view_as_complex(inputs[2]) if spectral else None,
        demodulate=demodulate,
        gain=1.4,
    )
    expected = torch.autograd.grad(plain, inputs, grad)
    torch.testing.assert_close(op(grad, *inputs), expected, rtol=1e-11, atol=1e-11)
    assert torch.autograd.gradcheck(op, (grad, *inputs))
    assert torch.autograd.gradgradcheck(op, (grad, *inputs), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spectral", [True, False])
def test_the_weights_of_a_few_samples_at_a_time_are_the_same(monkeypatch, dtype, spectral):
    _, weight, style, _, spectrum = linear_case(n=5, c=12, spectral=spectral, dtype=torch.float32)
    inputs = with_grad([weight, style, spectrum])
    cotangent = maker(1, torch.float32)(5, 4, 12).to(dtype)
    results = []
    # All five samples in plain operators; groups of two, two and one; one sample at a time.
    for numbers in (5 * weight.numel(), 2 * weight.numel(), 0):
        monkeypatch.setattr(samples, "GROUP_NUMBERS", numbers)
        # Autocast as in a path length step; sums must stay in float32.
        with torch.autocast("cpu", torch.bfloat16):
            out = modulated_weights(*inputs, dtype=dtype)
            results.append([out, *torch.autograd.grad(out, inputs, cotangent)])
    assert "modulated_weights" in results[1][0].grad_fn.name()
    for actual in results[1:]:
        assert torch.equal(actual[0], results[0][0])
        for a, b in zip(actual[1:], results[0][1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_biline_decode_derivatives():
    tensors, widths = decode_case()
    inputs = with_grad(tensors)

    def op(*inputs):
        return OPS.biline_decode(*inputs, widths)

    torch.testing.assert_close(op(*inputs), formula.plain(*inputs, widths), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(op, inputs)
    assert torch.autograd.gradgradcheck(op, inputs)


def test_a_third_derivative_of_biline_decode_raises():
    tensors, widths = decode_case()
    features, *rest = with_grad(tensors)
    (first,) = torch.autograd.grad(
        OPS.biline_decode(features, *rest, widths).square().sum(), features, create_graph=True
    )
    with pytest.raises(RuntimeError, match="first and second"):
        torch.autograd.grad(first.square().sum(), features, create_graph=True)


def render_case(
    n=2, h=3, w=5, d=2, levels=2, widths=(3, 5, 3), refinement=(4, 6), dtype=torch.float64
):
    rand = maker(dtype=dtype)
    k = widths[0]
    lines = [[rand(n, size, d, k) for _ in range(levels)] for size in (h, w)]
    decoders = [
        (w, b)
        for w, b in (
            zip(*unpack(rand(num_numbers(mlp_shapes(widths))), mlp_shapes(widths)), strict=False)
            for _ in range(levels)
        )
    ]
    shapes = refinement_shapes(k, refinement)
    layers = unpack(rand(n, num_numbers(shapes)), shapes)
    layers = [(weight, bias[0]) for weight, bias in layers]
    pairs = [tuple(zip(*layers[i : i + 2], strict=False)) for i in range(1, len(layers), 3)]
    return *lines, decoders, pairs, layers[0::3]


def by_level(rows, columns, decoders, pairs, to_rgb):
    features = reference.biline_compose(rows[0], columns[0])
    for (weights, biases), r, c in zip(decoders, rows[1:], columns[1:], strict=False):
        features = reference.biline_decode(features, r, c, weights, biases)
    features = reference.pixel_mlp(features, *decoders[-1])
    features = features * (features.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()
    return (
        reference.refine(features.flatten(1, 2), pairs, to_rgb)
        .transpose(1, 2)
        .unflatten(2, features.shape[1:3])
    )


# The last two sizes need several tiles.
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (67, 129), (1, 4099)], ids=str)
def test_render_equals_the_levels_one_by_one(size):
    case = render_case(h=size[0], w=size[1])
    with torch.no_grad():
        image = biline_render(*case[:2], pack_pixels(*case[2:]))
        torch.testing.assert_close(image, by_level(*case), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(67, 129), (1, 4099)], ids=str)
def test_decode_and_its_gradients_in_several_tiles(size):
    tensors, widths = decode_case(n=1, h=size[0], w=size[1])
    inputs = with_grad(tensors)
    cotangent = maker(1)(1, *size, widths[0])
    actual = OPS.biline_decode(*inputs, widths)
    expected = formula.plain(*inputs, widths)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad(actual, inputs, cotangent),
        torch.autograd.grad(expected, inputs, cotangent),
        strict=False,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("grad", [True, False])
def test_training_is_plain_where_only_the_forward_has_a_kernel(monkeypatch, grad):
    """The backward in tiles is for CPUs; on a GPU it would make thousands of launches a step."""
    monkeypatch.setattr(formula, "covers", lambda name, *_: name != "biline_decode_backward")
    monkeypatch.setattr(biline, "registered", lambda *_, **__: True)
    (features, rows, columns, params), widths = decode_case()
    weights, biases = zip(*unpack(params, mlp_shapes(widths)), strict=False)
    called = []
    monkeypatch.setattr(reference, "biline_decode", lambda *tensors: called.append(tensors))
    with torch.set_grad_enabled(grad):
        biline_decode(features.requires_grad_(), rows, columns, weights, biases)
    assert len(called) == grad


def test_strided_inputs_give_the_same():
    (features, rows, columns, params), widths = decode_case(widths=(4, 5, 4))
    shapes = mlp_shapes(widths)
    weights, biases = zip(*unpack(params, shapes), strict=False)
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (features, rows, columns)]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(
        biline_decode(*strided, weights, biases),
        biline_decode(features, rows, columns, weights, biases),
    )
    x, weight, style, bias, spectrum = linear_case()
    strided = x.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(
        registered_linear(strided, weight.t().contiguous().t(), style, bias, spectrum),
        registered_linear(x, weight, style, bias, spectrum),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_as_good_as_plain_pytorch(dtype):
    """The error against float64 is at most twice that of the plain form in that precision."""
    tensors, widths = decode_case(h=40, w=40, widths=(8, 16, 8))
    tensors = [(t / (3 if i == 3 else 1)).to(dtype) for i, t in enumerate(tensors)]
    exact = formula.plain(*(t.double() for t in tensors), widths)
    error = (OPS.biline_decode(*tensors, widths).double() - exact).norm()
    assert error <= 2 * (formula.plain(*tensors, widths).double() - exact).norm()
    assert error / exact.norm() < (2e-2 if dtype == torch.bfloat16 else 3e-3)


def test_empty_inputs_are_named():
    x, weight, style, bias, _ = linear_case()
    with pytest.raises(ValueError, match="modulated_linear: empty"):
        modulated_linear(x[:0], weight, style[:0], bias)
    with pytest.raises(ValueError, match="modulated_linear: empty"):
        modulated_linear(x[:, :0], weight, style, bias)
    tensors, _ = decode_case()
    with pytest.raises(ValueError, match="biline_decode: empty"):
        biline_decode(*(t[:0] for t in tensors[:3]), [], [])


def test_one_position_of_one_sample():
    x, weight, style, bias, spectrum = linear_case(n=1, p=1)
    torch.testing.assert_close(
        registered_linear(x, weight, style, bias, spectrum),
        modulated_linear(x, weight, style, bias, spectrum=spectrum),
    )


def opcheck_cases():
    x, weight, style, bias, spectrum = linear_case()
    parts = torch.view_as_real(spectrum)
    prepared = modulated_weights(weight, style, spectrum)
    tensors, widths = decode_case()
    rows, columns, decoders, pairs, to_rgb = render_case()
    layers = [
        to_rgb[0],
        *zip(*pairs[0], strict=False),
        to_rgb[1],
        *zip(*pairs[1], strict=False),
        to_rgb[2],
    ]
    return {
        "modulated_weights": (*with_grad([weight, style, parts]), True, 1.4, torch.float64),
        "modulated_weights_backward": (*with_grad([prepared, weight, style, parts]), True, 1.4),
        "linear_act": (*with_grad([x, prepared, bias]), True),
        "act_backward": (*with_grad([x]), x, True),
        "biline_decode": (*with_grad(tensors), widths),
        "biline_decode_backward": (*with_grad([tensors[0] * 2, *tensors]), widths),
        "biline_render": (
            rows,
            columns,
            torch.stack([pack(*d) for d in decoders]),
            pack(*zip(*layers, strict=False)),
            [3, 5, 3],
            [4, 6],
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", opcheck_cases())
def test_opcheck(name):
    torch.library.opcheck(getattr(OPS, name).default, opcheck_cases()[name])


def test_opcheck_of_the_weights_backward_without_a_spectrum():
    _, weight, style, _, _ = linear_case(spectral=False)
    arguments = maker(1)(2, *weight.shape), weight, style, None, True, 1.4
    torch.library.opcheck(
        OPS.modulated_weights_backward.default,
        arguments,
        test_utils=("test_schema", "test_faketensor"),
    )


def test_normalised_features_have_mean_square_one():
    rows, columns, decoders, _, _ = render_case(levels=1)
    identity = [(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))]
    with torch.no_grad():
        rgb = biline_render(rows, columns, pack_pixels(decoders, [], identity))
    torch.testing.assert_close(rgb.square().mean(dim=1), torch.ones(2, 3, 5, dtype=torch.float64))


def tiny_generator():
    generator = preset("eidgan-tiny").build()
    rand = maker(dtype=torch.float32)
    text = TextFeatures(rand(2, 64), rand(2, 3, 64), torch.ones(2, 3, dtype=torch.bool))
    return generator, rand(2, *generator.latent_shape), text, View(height=7, width=9)


def test_generator_is_the_same_with_and_without_the_operators():
    generator, z, text, view = tiny_generator()
    results = []
    for ops in ("ref", "auto"):
        with using(ops):
            image = generator(z, text, view)
            grads = torch.autograd.grad(
                image.square().sum(), list(generator.parameters()), allow_unused=True
            )
            with torch.no_grad():
                results.append(
                    [image.detach(), generator(z, text, view), *(g for g in grads if g is not None)]
                )
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * max(float(a.abs().max()), 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("grad", [True, False])
def test_generator_compiles_without_graph_breaks(grad):
    generator, z, text, view = tiny_generator()
    torch._dynamo.reset()
    with torch.set_grad_enabled(grad):
        compiled = torch.compile(generator, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(
            compiled(z, text, view), generator(z, text, view), rtol=1e-4, atol=1e-4
        )


def test_tiles_cover_every_pixel_once():
    for size in ((2, 1, 1), (2, 3, 5000), (2, 130, 64), (9, 32, 32)):
        seen = torch.zeros(size)
        for piece in tiles.tiles(*size):
            seen[piece] += 1
            assert seen[piece].numel() <= tiles.TILE_PX
        assert (seen == 1).all()
