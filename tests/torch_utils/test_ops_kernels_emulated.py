"""The CUDA kernels' own source, run on the CPU by an emulation of blocks, barriers and tensor-core fragments.

It checks index arithmetic, fragment layouts, barriers and unwritten outputs (buffers start as NaN). It cannot show what only
a GPU has: speed, memory-model races, compiler faults; tests marked gpu do that.
"""

from __future__ import annotations

import ctypes

import pytest
import torch

from tests.torch_utils.emulation import DTYPES, TF32, Configuration, call, compiler, library, poisoned, structure
from torch_utils.ops.biline import formula
from torch_utils.ops.biline.packing import mlp_shapes, num_numbers, refinement_shapes

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
WIDTHS = {"paper": [32, 64, 128, 64, 32], "small": [16, 32, 32, 16]}
DecodeParams = structure(*((n, "p") for n in ("features", "rows", "columns", "params", "out")),
                         *((n, "i") for n in ("batch", "height", "width", "depth")))


def decode_case(widths, n=2, h=5, w=7, d=3, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    def rand(*shape):
        return torch.randn(*shape, generator=g).to(dtype)
    params = torch.cat([torch.cat([rand(o * c) / c ** 0.5, rand(o)]) for o, c in mlp_shapes(widths)])
    return rand(n, h, w, widths[0]), rand(n, h, d, widths[0]), rand(n, w, d, widths[0]), params


def no_worse_than(actual, plain, exact, factor=2.0):
    """Relative error against float64 at most `factor` times that of plain PyTorch in the same precision."""
    error, allowed = ((x.double() - exact).norm() / exact.norm() for x in (actual, plain))
    assert error <= factor * allowed + 1e-7, (float(error), float(allowed))


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 7), (1, 33, 17)], ids=str)
def test_decode(widths, dtype, size):
    widths = WIDTHS[widths]
    n, h, w = size
    tensors = decode_case(widths, n, h, w, dtype=dtype)
    out = poisoned(n, h, w, widths[0], dtype=dtype)
    call(library("biline/cuda/decode.cu").eidgan_decode, ctypes.byref(Configuration(DTYPES[dtype], widths)),
         DecodeParams(*(t.data_ptr() for t in (*tensors, out)), n, h, w, 3))
    exact = formula.plain(*(t.double() for t in tensors), widths)
    no_worse_than(out, formula.plain(*tensors, widths), exact)


def test_decode_in_tf32_is_as_good_as_tf32():
    widths = WIDTHS["paper"]
    tensors = decode_case(widths)
    out = poisoned(2, 5, 7, 32)
    call(library("biline/cuda/decode.cu").eidgan_decode, ctypes.byref(Configuration(TF32, widths)),
         DecodeParams(*(t.data_ptr() for t in (*tensors, out)), 2, 5, 7, 3))
    exact = formula.plain(*(t.double() for t in tensors), widths)
    error = float((out.double() - exact).norm() / exact.norm())
    assert 1e-5 < error < 1e-3


RenderParams = structure(("rows", "levels"), ("columns", "levels"), *((n, "p") for n in ("decoders", "refinement", "image")),
                         *((n, "i") for n in ("batch", "height", "width", "depth", "levels", "refinement_numbers", "normalise", "sets")))


@pytest.mark.parametrize("name,dtype,size,normalise", [
    ("paper", torch.bfloat16, (1, 5, 7), False), ("paper", torch.float32, (1, 3, 5), True), ("paper", torch.float16, (2, 1, 1), True),
    ("small", torch.bfloat16, (2, 33, 37), False), ("small", torch.float32, (1, 20, 30), True)], ids=str)
def test_render(name, dtype, size, normalise):
    (n, h, w), widths, refinement, levels, d = size, WIDTHS[name], {"paper": [128, 64], "small": [32, 32]}[name], 3, 2
    cases = [decode_case(widths, n, h, w, d, dtype, seed) for seed in range(levels)]
    rows, columns = ([case[i] for case in cases] for i in (1, 2))
    decoders = torch.stack([case[3] for case in cases])
    shapes = refinement_shapes(widths[0], refinement)
    g = torch.Generator().manual_seed(9)
    refinements = torch.cat([torch.cat([torch.randn(n, o * c, generator=g) / c ** 0.5, torch.randn(n, o, generator=g)], dim=1)
                             for o, c in shapes], dim=1).to(dtype)
    image = poisoned(n, 3, h, w)
    pointers = [(ctypes.c_void_p * 16)(*(t.data_ptr() for t in lines)) for lines in (rows, columns)]
    call(library("biline/cuda/render.cu").eidgan_render, ctypes.byref(Configuration(DTYPES[dtype], widths, refinement)),
         RenderParams(*pointers, decoders.data_ptr(), refinements.data_ptr(), image.data_ptr(), n, h, w, d, levels,
                      refinements.shape[1], normalise, 0))

    def plain(to):
        return torch.ops.eidgan.biline_render([t.to(to) for t in rows], [t.to(to) for t in columns], decoders.to(to),
                                              refinements.to(to), widths, refinement, normalise)

    no_worse_than(image, plain(dtype), plain(torch.float64))


BackwardParams = structure(*((n, "p") for n in ("grad", "features", "params", "d_features", "partial")),
                           *((n, "i") for n in ("batch", "height", "width", "blocks")))
LinesParams = structure(*((n, "p") for n in ("grad", "other", "d_line")),
                        *((n, "i") for n in ("batch", "size", "other_size", "depth", "channels")),
                        *((n, "l") for n in ("batch_stride", "stride", "other_stride")), ("scale", "f"))


@pytest.mark.parametrize("name,dtype,size,depth", [
    ("paper", torch.bfloat16, (2, 5, 31), 8), ("paper", torch.float16, (1, 1, 1), 1), ("small", torch.bfloat16, (1, 23, 17), 4),
    ("small", torch.float16, (2, 9, 30), 2)], ids=str)
def test_decode_backward(name, dtype, size, depth):
    (n, h, w), widths = size, WIDTHS[name]
    tensors = decode_case(widths, n, h, w, depth, dtype)
    features, rows, columns, params = tensors
    grad = decode_case(widths, n, h, w, depth, dtype, seed=1)[0]
    kernels = library("biline/cuda/backward.cu")
    blocks = kernels.eidgan_backward_blocks(n, h, w)
    d_features, partial = poisoned(*features.shape, dtype=dtype), poisoned(blocks, len(params))
    call(kernels.eidgan_decode_backward, ctypes.byref(Configuration(DTYPES[dtype], widths)), BackwardParams(
        *(t.data_ptr() for t in (grad, features, params, d_features, partial)), n, h, w, blocks))
    d_rows, d_columns = poisoned(*rows.shape, dtype=dtype), poisoned(*columns.shape, dtype=dtype)
    lines, k = library("biline/cuda/lines.cu").eidgan_lines_backward, widths[0]
    scale = (0.5 / depth) ** 0.5
    for target, other, sizes, strides in ((d_rows, columns, (h, w), (w * k, k)), (d_columns, rows, (w, h), (k, w * k))):
        call(lines, DTYPES[dtype], LinesParams(grad.data_ptr(), other.data_ptr(), target.data_ptr(), n, *sizes, depth, k,
                                               h * w * k, *strides, scale))
    actual = d_features, d_rows, d_columns, partial.sum(dim=0)
    plain = torch.ops.eidgan.biline_decode_backward(grad, *tensors, widths)
    exact = torch.ops.eidgan.biline_decode_backward(*(t.double() for t in (grad, *tensors)), widths)
    for a, p, e in zip(actual, plain, exact, strict=True):
        no_worse_than(a, p, e)


WeightsParams = structure(*((n, "p") for n in ("weight", "style", "spectrum", "out")),
                          *((n, "i") for n in ("batch", "outputs", "channels", "demodulate")), ("gain", "f"), ("num_factors", "i"),
                          *((f"factor{i}", "i") for i in range(12)))
ActParams = structure(("y", "p"), ("bias", "p"), ("rows", "l"), ("outputs", "i"), ("activate", "i"), ("clamp", "f"))
ActBackwardParams = structure(*((n, "p") for n in ("grad", "y", "d_x", "partial")), ("rows", "l"),
                              *((n, "i") for n in ("outputs", "activate", "chunks")), ("clamp", "f"))


@pytest.mark.parametrize("channels", [1, 2, 7, 16, 45, 64, 352])  # radices 2, 4, 8, odd, prime, and 32 x 11 as in the preset
@pytest.mark.parametrize("spectral", [True, False])
def test_modulated_weights(channels, spectral):
    g = torch.Generator().manual_seed(0)
    n, o, demodulate = 2, 9, channels % 2 == 1
    weight, style = torch.randn(o, channels, generator=g), torch.randn(n, channels, generator=g)
    spectrum = torch.randn(n, channels // 2 + 1, 2, generator=g) if spectral else None
    out = poisoned(n, o, channels)
    call(library("modulated_linear/cuda/modulated_linear.cu").eidgan_modulated_weights, 0, WeightsParams(
        weight.data_ptr(), style.data_ptr(), spectrum.data_ptr() if spectral else None, out.data_ptr(), n, o, channels, demodulate,
        1.4, 0, *[0] * 12))

    def plain(to):
        return torch.ops.eidgan.modulated_weights(weight.to(to), style.to(to), spectrum.to(to) if spectral else None, demodulate,
                                                  1.4, to)

    no_worse_than(out, plain(torch.float32), plain(torch.float64), factor=4)  # both FFTs are near float32's last bit


@pytest.mark.parametrize("outputs", [5, 64])  # scalar and vector path
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("activate,clamp", [(True, None), (True, 0.5), (False, 0.7)])
def test_activation_and_its_gradient(outputs, dtype, activate, clamp):
    g = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(2, 33, outputs, generator=g).to(dtype) for _ in range(2))
    bias, limit = torch.randn(outputs, generator=g).to(dtype), float("inf") if clamp is None else clamp
    kernels, y = library("modulated_linear/cuda/modulated_linear.cu"), x.clone()
    call(kernels.eidgan_act, DTYPES[dtype], ActParams(y.data_ptr(), bias.data_ptr(), 66, outputs, activate, limit))
    expected = x.float() + bias.float()
    expected = torch.nn.functional.leaky_relu(expected, 0.2) if activate else expected
    torch.testing.assert_close(y, expected.clamp(-limit, limit).to(dtype))

    d_x, partial = poisoned(2, 33, outputs, dtype=dtype), poisoned(3, outputs)
    call(kernels.eidgan_act_backward, DTYPES[dtype], ActBackwardParams(
        grad.data_ptr(), y.data_ptr(), d_x.data_ptr(), partial.data_ptr(), 66, outputs, activate, 3, limit))
    expected, d_bias = torch.ops.eidgan.act_backward(grad, y, activate, clamp)
    torch.testing.assert_close(d_x, expected)
    torch.testing.assert_close(partial.sum(dim=0), d_bias.float(), rtol=2e-2, atol=2e-2 if dtype != torch.float32 else 1e-4)
