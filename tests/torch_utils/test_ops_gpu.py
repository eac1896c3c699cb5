"""The kernels on a GPU: errors against float64, unwritten elements, derivatives, training steps.

Training steps are compared with plain PyTorch.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu_check.needs import kernels_lack, triton_lacks
from networks.coordinates import View
from networks.discriminators.wavelet import WaveletDiscriminatorConfig
from networks.generators import preset
from networks.interfaces import TextFeatures
from tests.networks.nearness import ONE_BACKWARD, TWO_BACKWARDS, assert_near
from torch_utils.ops.backend import using
from torch_utils.ops.biline import biline_decode, biline_render, formula, pack_pixels, reference
from torch_utils.ops.biline.packing import mlp_shapes, refinement_shapes, unpack
from torch_utils.ops.modulated_linear import formula as linear_formula
from torch_utils.ops.modulated_linear import modulated_linear, modulated_weights
from torch_utils.ops.modulated_linear import reference as linear_reference

pytestmark = pytest.mark.gpu
OPS = torch.ops.eidgan
PAPER, SMALL = [32, 64, 128, 64, 32], [16, 32, 32, 16]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


LACKING = kernels_lack() if torch.cuda.is_available() else None


@pytest.fixture(autouse=True)
def _plugins():
    if LACKING:
        pytest.skip(f"the kernels need {LACKING}")
    with using("cuda"):  # never falls back
        yield


def maker(dtype=torch.float32, seed=0):
    g = torch.Generator(device="cuda").manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=g, device="cuda").to(dtype)


def poison_allocator():
    """Fill freed memory with NaN, so that elements that a kernel does not write are seen."""
    blocks = [
        torch.full((size,), float("nan"), device="cuda")
        for size in (1 << 10, 1 << 16, 1 << 20, 1 << 23)
    ]
    torch.cuda.synchronize()
    del blocks


def no_worse_than(actual, plain, exact, factor=2.0):
    """Compare the relative error against float64 with that of plain PyTorch in the same precision.

    The error may be `factor` times as large. NaN never passes.
    """
    error, allowed = (float((x.double() - exact).norm() / exact.norm()) for x in (actual, plain))
    assert error <= factor * allowed + 1e-7, (error, allowed)


def decode_case(widths, n, h, w, d, dtype):
    rand = maker(dtype)
    params = torch.cat([torch.cat([rand(o * c) / c**0.5, rand(o)]) for o, c in mlp_shapes(widths)])
    return [rand(n, h, w, widths[0]), rand(n, h, d, widths[0]), rand(n, w, d, widths[0]), params]


def decode(features, rows, columns, params, widths):
    """`biline_decode` as networks call it.

    With gradients in float32 that is plain PyTorch, because there is no kernel for it.
    """
    return biline_decode(
        features, rows, columns, *zip(*unpack(params, mlp_shapes(widths)), strict=False)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", [PAPER, SMALL], ids=["paper", "small"])
@pytest.mark.parametrize(
    "size", [(1, 1, 1, 1), (3, 37, 53, 8), (1, 512, 300, 8), (2, 64, 64, 4)], ids=str
)
def test_decode_and_its_gradients(dtype, widths, size):
    tensors = decode_case(widths, *size, dtype)
    cotangent = maker(dtype, 1)(*tensors[0].shape)
    inputs = [t.clone().requires_grad_() for t in tensors]
    poison_allocator()
    out = decode(*inputs, widths)
    exact_inputs = [t.double().requires_grad_() for t in tensors]
    exact = formula.plain(*exact_inputs, widths)
    plain_inputs = [t.clone().requires_grad_() for t in tensors]
    plain = formula.plain(*plain_inputs, widths)
    no_worse_than(out, plain, exact)
    with torch.no_grad():
        no_worse_than(decode(*tensors, widths), plain, exact)
    poison_allocator()
    for a, p, e in zip(
        torch.autograd.grad(out, inputs, cotangent),
        torch.autograd.grad(plain, plain_inputs, cotangent),
        torch.autograd.grad(exact, exact_inputs, cotangent.double()),
        strict=False,
    ):
        no_worse_than(a, p, e)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_goes_where_plain_pytorch_takes_it(dtype):
    """Forward, backward, render and activation keep NaN, so that divergence is noticed."""
    tensors = decode_case(PAPER, 1, 5, 7, 8, dtype)
    tensors[0][0, 2, 3, 4] = float("nan")
    cotangent, outcomes = maker(dtype, 1)(*tensors[0].shape), []
    for function in (decode, formula.plain):
        inputs = [t.clone().requires_grad_() for t in tensors]
        out = function(*inputs, PAPER)
        with torch.no_grad():
            outcomes.append(
                [out, function(*tensors, PAPER), *torch.autograd.grad(out, inputs, cotangent)]
            )
    case = render_case(PAPER, [128, 64], 1, 5, 7, 8, 3, dtype)
    case[0][1][0, 2] = float("nan")
    with torch.no_grad():
        if has_room(PAPER, dtype):
            outcomes[0].append(biline_render(*case[:2], pack_pixels(*case[2:])))
            outcomes[1].append(by_level(case, dtype))
    rand = maker(dtype)
    x, weight, style, bias = rand(2, 9, 64), rand(64, 64), rand(2, 64), rand(64)
    x[1, 3, 5] = float("nan")
    for outcome, function in zip(
        outcomes, (modulated_linear, linear_reference.modulated_linear), strict=False
    ):
        outcome.append(function(x, weight, style, bias))
    # The NaN of phi reaches both results and the gradient of the weights, but not the gradients of
    # phi and the lines.
    pattern = [True, True, False, False, False, True, True, True][: len(outcomes[1])]
    assert [bool(expected.isnan().any()) for expected in outcomes[1]] == pattern
    for actual, expected in zip(*outcomes, strict=True):
        assert torch.equal(actual.isnan(), expected.isnan())


def test_tf32_is_as_the_user_set_it():
    tensors = decode_case(PAPER, 1, 64, 64, 8, torch.float32)
    exact = formula.plain(*(t.double() for t in tensors), PAPER)
    errors = []
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    try:
        for precision in ("ieee", "tf32"):
            products.fp32_precision = precision
            errors.append(
                float((OPS.biline_decode(*tensors, PAPER).double() - exact).norm() / exact.norm())
            )
    finally:
        products.fp32_precision = before
    assert errors[0] < 3e-6 < 3e-5 < errors[1] < 2e-3


def render_case(widths, refinement, n, h, w, d, levels, dtype):
    rand = maker(dtype)
    lines = [[rand(n, size, d, widths[0]) for _ in range(levels)] for size in (h, w)]
    decoders = [
        tuple(
            zip(
                *unpack(decode_case(widths, 1, 1, 1, 1, dtype)[3], mlp_shapes(widths)), strict=False
            )
        )
        for _ in range(levels)
    ]
    layers = [
        (rand(n, o, c) / c**0.5, rand(o)) for o, c in refinement_shapes(widths[0], refinement)
    ]
    return (
        *lines,
        decoders,
        [tuple(zip(*layers[i : i + 2], strict=False)) for i in range(1, len(layers), 3)],
        layers[0::3],
    )


def has_room(widths, dtype):
    """Whether a block of this GPU has enough shared memory for `biline_render`.

    The paper's widths in float32 need more than the 163 KiB of an A100 and less than the 227 KiB of
    an H100. All other configurations fit every GPU. The kernel's answer is not used.
    """
    properties = torch.cuda.get_device_properties(0)
    limit = getattr(properties, "shared_memory_per_block_optin")  # noqa: B009 (not in its type)
    return limit > 200 * 1024 or not (widths == PAPER and dtype == torch.float32)


def by_level(case, dtype):
    """The whole pixel part in plain PyTorch, level by level, in `dtype`."""
    rows, columns, decoders, pairs, to_rgb = cast(case, dtype)
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


def cast(x, dtype):
    return x.to(dtype) if isinstance(x, torch.Tensor) else [cast(part, dtype) for part in x]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "config",
    [(PAPER, [128, 64], 8, 7), (SMALL, [64, 32], 4, 7), (SMALL, [32, 32], 4, 4)],
    ids=["paper", "fast", "small"],
)
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 33, 47), (1, 300, 512)], ids=str)
def test_render(dtype, config, size):
    widths, refinement, depth, levels = config
    if not has_room(widths, dtype):
        pytest.skip("the kernel needs more shared memory than this GPU has")
    case = render_case(widths, refinement, *size, depth, levels, dtype)
    with torch.no_grad():
        poison_allocator()
        image = biline_render(*case[:2], pack_pixels(*case[2:]))
        assert image is not None
        factor = 6 if size == (1, 1, 1) else 2  # the error of three numbers varies more
        no_worse_than(image, by_level(case, dtype), by_level(case, torch.float64), factor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels,outputs", [(704, 704), (192, 384), (7, 5), (352, 33)])
@pytest.mark.parametrize("spectral", [True, False])
def test_modulated_linear_and_its_gradients(dtype, channels, outputs, spectral):
    rand = maker()
    spectrum = (
        torch.complex(rand(2, channels // 2 + 1), rand(2, channels // 2 + 1)) if spectral else None
    )
    single = [
        rand(2, 65, channels).to(dtype),
        rand(outputs, channels),
        rand(2, channels),
        rand(outputs),
    ]

    cotangent = maker(seed=3)(2, 65, outputs)

    def run(function, wide):
        tensors = [t.double() if wide else t for t in single] + (
            [spectrum.to(torch.complex128) if wide else spectrum] if spectral else []
        )
        tensors = [t.clone().requires_grad_() for t in tensors]
        y = function(
            *tensors[:4], spectrum=tensors[4] if spectral else None, demodulate=True, activate=True
        )
        return [y, *torch.autograd.grad(y, tensors, cotangent.to(y.dtype))]

    def fused(*args, **options):
        return linear_formula.modulated_linear(*args, gain=linear_reference.LEAKY_GAIN, **options)

    # Rounding decides the sign of results near 0, and so the slope of leaky ReLU. One other slope
    # among the 650 of the smallest layer changes gradients by 2 to 9 %. So none may depend on it.
    y = run(linear_reference.modulated_linear, True)[0].detach()
    cotangent[y.abs() < 0.05 * y.square().mean().sqrt()] = 0
    poison_allocator()
    for a, p, e in zip(
        run(fused, False),
        run(linear_reference.modulated_linear, False),
        run(linear_reference.modulated_linear, True),
        strict=True,
    ):
        parts = [torch.view_as_real(t) if t.is_complex() else t for t in (a, p, e)]
        # The factor is 3 in float32, because the FFTs of plain PyTorch are nearly exact there.
        no_worse_than(*parts, factor=3 if dtype == torch.float32 else 2)


def test_weights_equal_plain_pytorch():
    rand = maker()
    weight, style = rand(704, 704), rand(3, 704)
    spectrum = torch.complex(rand(3, 353), rand(3, 353))
    exact = linear_reference.modulated_weights(
        weight.double(), style.double(), spectrum.to(torch.complex128)
    )
    assert (
        float((modulated_weights(weight, style, spectrum).double() - exact).norm() / exact.norm())
        < 1e-6
    )


def generator_case(name="eidgan-small"):
    torch.manual_seed(0)
    generator = preset(name).build().cuda()
    config, rand = generator.config, maker()
    text = TextFeatures(
        rand(2, config.sentence_dim),
        rand(2, 3, config.word_dim),
        torch.ones(2, 3, dtype=torch.bool, device="cuda"),
    )
    return generator, rand(2, *generator.latent_shape), text


@pytest.mark.parametrize("name", ["eidgan-small", "eidgan"])
def test_generator_step_equals_the_references(name):
    generator, z, text = generator_case(name)
    results = []
    for ops in ("ref", "cuda"):
        with using(ops):
            image = generator(z, text, View(height=40, width=56))
            grads = torch.autograd.grad(
                image.square().mean(), list(generator.parameters()), allow_unused=True
            )
            with torch.no_grad():
                again = generator(z, text, View(height=40, width=56))
            found = [g for g in grads if g is not None]
            results.append(([image.detach(), again], found))
    (pictures, grads), (expected_pictures, expected_grads) = reversed(results)
    for a, b in zip(expected_pictures, pictures, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3 * float(a.abs().max()))
    assert_near(grads, expected_grads, ONE_BACKWARD)


def test_path_length_step_equals_the_references():
    """The path length needs the gradient of a gradient through every operator of the generator."""
    generator, z, text = generator_case()
    results = []
    for ops in ("ref", "cuda"):
        with using(ops):
            codes = generator.mapping(z, text)
            image = generator.synthesis(codes, View.square(24))
            noise = maker(seed=5)(*image.shape)
            (first,) = torch.autograd.grad((image * noise).sum(), codes.tokens, create_graph=True)
            grads = torch.autograd.grad(
                first.square().sum().sqrt(), list(generator.parameters()), allow_unused=True
            )
            results.append((first, [g for g in grads if g is not None]))
    assert_near([results[1][0]], [results[0][0]], TWO_BACKWARDS)
    assert_near(results[1][1], results[0][1], TWO_BACKWARDS)


def test_r1_step_equals_the_references():
    generator, _, text = generator_case()
    discriminator = (
        WaveletDiscriminatorConfig(
            resolution=64, sentence_dim=generator.config.sentence_dim, channel_base=2048
        )
        .build()
        .cuda()
    )
    images = maker(seed=2)(2, 3, 64, 64)
    results = []
    for ops in ("ref", "cuda"):
        with using(ops):
            x = images.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(
                discriminator(x, text).logits.sum(), x, create_graph=True
            )
            grads = torch.autograd.grad(
                gradient.square().sum(), list(discriminator.parameters()), allow_unused=True
            )
            results.append([g for g in grads if g is not None])
    assert_near(results[1], results[0], TWO_BACKWARDS)


@pytest.mark.parametrize(
    "compiled",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                triton_lacks() is not None, reason=f"torch.compile needs {triton_lacks()}"
            ),
        ),
    ],
    ids=["eager", "compiled"],
)
def test_bf16_autocast(compiled):
    generator, z, text = generator_case()
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        view = View.square(64)
        with using("ref"):
            expected = generator(z, text, view)
        actual = (torch.compile(generator, fullgraph=True) if compiled else generator)(
            z, text, view
        )
    assert float((actual - expected).norm() / expected.norm()) < 0.05


def test_cuda_graph_replays_the_render():
    case = render_case(PAPER, [128, 64], 1, 64, 64, 8, 7, torch.bfloat16)
    with torch.no_grad():
        expected = biline_render(*case[:2], pack_pixels(*case[2:]))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            image = biline_render(*case[:2], pack_pixels(*case[2:]))
        image.fill_(float("nan"))
        graph.replay()
        torch.testing.assert_close(image, expected)
