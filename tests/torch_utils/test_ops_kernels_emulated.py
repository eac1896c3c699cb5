"""The CUDA kernels' own source, run on the CPU by an emulation of blocks, barriers and tensor-core fragments.

It checks values: index arithmetic, fragment layouts, rounding, unwritten outputs (buffers start as
NaN). Races and accesses astray are for test_ops_races.py; what only a GPU has (speed, faults of
nvcc) is for the tests marked gpu.
"""

from __future__ import annotations

import ctypes

import pytest
import torch

from networks.generators import preset
from tests.torch_utils.emulation import (
    DTYPES,
    TF32,
    Configuration,
    call,
    compiler,
    library,
    poisoned,
    structure,
)
from torch_utils.ops.biline import formula
from torch_utils.ops.biline.packing import mlp_shapes, pack, refinement_shapes

pytestmark = pytest.mark.skipif(not compiler(), reason="no C++ compiler")
WIDTHS = {"paper": [32, 64, 128, 64, 32], "small": [16, 32, 32, 16]}
DecodeParams = structure(
    *((n, "p") for n in ("features", "rows", "columns", "params", "out")),
    *((n, "i") for n in ("batch", "height", "width", "depth")),
)


def decode_case(widths, n=2, h=5, w=7, d=3, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.randn(*shape, generator=g).to(dtype)

    layers = [(rand(o, c) / c**0.5, rand(o)) for o, c in mlp_shapes(widths)]
    params = pack(*zip(*layers, strict=True))
    return rand(n, h, w, widths[0]), rand(n, h, d, widths[0]), rand(n, w, d, widths[0]), params


def no_worse_than(actual, plain, exact, factor=2.0):
    """Relative error against float64 at most `factor` times that of plain PyTorch in the same precision; NaN where that has it."""
    assert torch.equal(actual.isnan(), plain.isnan())
    actual, plain, exact = (x[~plain.isnan()].double() for x in (actual, plain, exact))
    error, allowed, scale = (
        (x - y).norm() for x, y in ((actual, exact), (plain, exact), (exact, 0))
    )
    assert error <= factor * allowed + 1e-7 * scale, (float(error), float(allowed), float(scale))


@pytest.fixture
def shared_memory():
    """(source, KiB) -> its library on a GPU whose blocks have that much shared memory."""
    changed = []

    def of(source: str, kib: int) -> ctypes.CDLL:
        kernels = library(source)
        changed.append(ctypes.c_size_t.in_dll(kernels, "eidgan_emulated_shared_bytes"))
        changed[-1].value = kib * 1024
        return kernels

    yield of
    for size in changed:
        size.value = 227 * 1024


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "size,nan", [((1, 1, 1), False), ((2, 5, 7), True), ((1, 33, 17), False)], ids=str
)
def test_decode(widths, dtype, size, nan):
    widths = WIDTHS[widths]
    n, h, w = size
    tensors = decode_case(widths, n, h, w, dtype=dtype)
    if nan:
        tensors[0][1, 2, 3, 4] = float("nan")
    out = poisoned(n, h, w, widths[0], dtype=dtype)
    call(
        library("biline/cuda/decode.cu").eidgan_decode,
        ctypes.byref(Configuration(DTYPES[dtype], widths)),
        DecodeParams(*(t.data_ptr() for t in (*tensors, out)), n, h, w, 3),
    )
    exact = formula.plain(*(t.double() for t in tensors), widths)
    no_worse_than(out, formula.plain(*tensors, widths), exact)


@pytest.mark.parametrize("place", ["features", "weight", "bias"])
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")], ids=str)
@pytest.mark.parametrize("dtype", [0, TF32, 1, 2], ids=["fp32", "tf32", "fp16", "bf16"])
def test_infinities_and_nan_come_out_as_in_plain_pytorch(dtype, value, place):
    """With positive weights and inputs an infinity stays one up to the end."""
    widths = WIDTHS["small"]
    storage = {code: dtype for dtype, code in DTYPES.items()}.get(dtype, torch.float32)
    features, rows, columns, params = (t.abs() for t in decode_case(widths, 1, 3, 7, 2, storage))
    features[0, 0, 1, 2] = 1.0  # a factor without bits below TF32's
    if place == "features":
        features[0, 1, 2, 3] = value
    else:
        params[{"weight": 2, "bias": widths[1] * widths[0]}[place]] = value
    out = poisoned(1, 3, 7, widths[0], dtype=storage)
    call(
        library("biline/cuda/decode.cu").eidgan_decode,
        ctypes.byref(Configuration(dtype, widths)),
        DecodeParams(*(t.data_ptr() for t in (features, rows, columns, params, out)), 1, 3, 7, 2),
    )
    plain = formula.plain(features, rows, columns, params, widths)
    tolerance = {0: 1e-5, TF32: 3e-3}.get(dtype, 3e-2)
    torch.testing.assert_close(out, plain, rtol=tolerance, atol=0, equal_nan=True)
    reached = out[0, 1, 2] if place == "features" else out
    torch.testing.assert_close(reached, torch.full_like(reached, value), equal_nan=True)


def test_decode_in_tf32_is_as_good_as_tf32():
    widths = WIDTHS["paper"]
    tensors = decode_case(widths)
    out = poisoned(2, 5, 7, 32)
    call(
        library("biline/cuda/decode.cu").eidgan_decode,
        ctypes.byref(Configuration(TF32, widths)),
        DecodeParams(*(t.data_ptr() for t in (*tensors, out)), 2, 5, 7, 3),
    )
    exact = formula.plain(*(t.double() for t in tensors), widths)
    error = float((out.double() - exact).norm() / exact.norm())
    assert 1e-5 < error < 1e-3


RenderParams = structure(
    ("rows", "levels"),
    ("columns", "levels"),
    *((n, "p") for n in ("decoders", "refinement", "image")),
    *(
        (n, "i")
        for n in ("batch", "height", "width", "depth", "levels", "refinement_numbers", "sets")
    ),
)


def render_case(widths, refinement, n, h, w, levels, depth, dtype):
    """Rows and columns of every level, decoders [levels, numbers], refinements [N, numbers]."""
    cases = [decode_case(widths, n, h, w, depth, dtype, seed) for seed in range(levels)]
    g = torch.Generator().manual_seed(9)
    layers = [
        (torch.randn(n, o, c, generator=g) / c**0.5, torch.randn(n, o, generator=g))
        for o, c in refinement_shapes(widths[0], refinement)
    ]
    rows, columns, decoders = ([case[i] for case in cases] for i in (1, 2, 3))
    return rows, columns, torch.stack(decoders), pack(*zip(*layers, strict=True)).to(dtype)


def rendered(kernels, rows, columns, decoders, refinements, widths, refinement):
    n, h, depth, _ = rows[0].shape
    w = columns[0].shape[1]
    image = poisoned(n, 3, h, w)
    pointers = [(ctypes.c_void_p * 16)(*(t.data_ptr() for t in lines)) for lines in (rows, columns)]
    numbers = (t.data_ptr() for t in (decoders, refinements, image))
    call(
        kernels.eidgan_render,
        ctypes.byref(Configuration(DTYPES[rows[0].dtype], widths, refinement)),
        RenderParams(*pointers, *numbers, n, h, w, depth, len(rows), refinements.shape[1], 0),
    )
    return image


@pytest.mark.parametrize(
    "name,refinement,dtype,size,nan",
    [
        ("paper", [128, 64], torch.bfloat16, (1, 33, 37), False),
        ("paper", [128, 64], torch.bfloat16, (1, 5, 7), False),
        ("paper", [128, 64], torch.float32, (1, 3, 5), True),
        ("paper", [128, 64], torch.float16, (2, 1, 1), False),
        ("small", [64, 32], torch.bfloat16, (1, 9, 11), True),
        ("small", [64, 32], torch.float32, (1, 5, 7), False),
        ("small", [32, 32], torch.bfloat16, (2, 33, 37), False),
        ("small", [32, 32], torch.float32, (1, 20, 30), False),
    ],
    ids=str,
)
def test_render(name, refinement, dtype, size, nan, shared_memory):
    """16 bits: with the shared memory of a GeForce, so that large pictures take fewer pixels a block."""
    (n, h, w), widths = size, WIDTHS[name]
    case = render_case(widths, refinement, n, h, w, 3, 2, dtype)
    rows, columns, decoders, refinements = case
    if nan:
        rows[1][0, h // 2] = float("nan")  # one row of the second level
    kernels = shared_memory("biline/cuda/render.cu", 227 if dtype == torch.float32 else 99)
    image = rendered(kernels, *case, widths, refinement)

    def plain(to):
        return torch.ops.eidgan.biline_render(
            [t.to(to) for t in rows],
            [t.to(to) for t in columns],
            decoders.to(to),
            refinements.to(to),
            widths,
            refinement,
        )

    assert bool(image.isnan().any()) == nan
    no_worse_than(image, plain(dtype), plain(torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pixel_does_not_depend_on_the_tile_that_it_lies_in(dtype, shared_memory):
    """Bit for bit: a crop of the picture is the picture of the crop, which has other tiles."""
    widths, refinement, (h, w) = WIDTHS["small"], [32, 32], (37, 41)
    top, left = slice(3, 32), slice(5, 36)
    rows, columns, *numbers = render_case(widths, refinement, 1, h, w, 2, 2, dtype)
    numbers += [widths, refinement]
    kernels = shared_memory("biline/cuda/render.cu", 227)
    whole = rendered(kernels, rows, columns, *numbers)
    crop = rendered(
        kernels,
        [line[:, top].contiguous() for line in rows],
        [line[:, left].contiguous() for line in columns],
        *numbers,
    )
    assert torch.equal(whole[:, :, top, left], crop)
    kernels = shared_memory("biline/cuda/render.cu", 48)
    assert torch.equal(whole, rendered(kernels, rows, columns, *numbers))

    features, row, column, params = decode_case(widths, 1, h, w, dtype=dtype)
    parts = features[:, top, left], row[:, top], column[:, left]
    outs = []
    for case in ((features, row, column), [part.contiguous() for part in parts]):
        outs.append(poisoned(*case[0].shape, dtype=dtype))
        call(
            library("biline/cuda/decode.cu").eidgan_decode,
            ctypes.byref(Configuration(DTYPES[dtype], widths)),
            DecodeParams(*(t.data_ptr() for t in (*case, params, outs[-1])), *case[0].shape[:3], 3),
        )
    assert torch.equal(outs[0][:, top, left], outs[1])


@pytest.fixture
def counters():
    """Library -> its counters, set to 0: bytes that threads read, bytes that blocks read, copies."""

    def of(kernels: ctypes.CDLL) -> list[ctypes.c_size_t]:
        names = ("bytes_read", "bytes_once", "copies")
        found = [ctypes.c_size_t.in_dll(kernels, f"eidgan_emulated_{name}") for name in names]
        for counter in found:
            counter.value = 0
        return found

    return of


def test_decode_reads_the_bytes_that_the_formulas_say(shared_memory, counters):
    """A block of 8 warps has the lines of 4 x 64 pixels; docs/ops.md counts by the same formulas."""
    widths, h, w, blocks = WIDTHS["small"], 16, 64, 4
    tensors = decode_case(widths, 1, h, w, 3, torch.bfloat16)
    out = poisoned(1, h, w, widths[0], dtype=torch.bfloat16)
    kernels = shared_memory("biline/cuda/decode.cu", 227)
    read, once, _ = counters(kernels)
    call(
        kernels.eidgan_decode,
        ctypes.byref(Configuration(DTYPES[torch.bfloat16], widths)),
        DecodeParams(*(t.data_ptr() for t in (*tensors, out)), 1, h, w, 3),
    )
    others, line = tensors[0].nbytes + blocks * tensors[3].nbytes, 2 * 3 * widths[0]
    assert once.value == others + blocks * (4 + 64) * line
    assert read.value == others + h * w * line


def test_render_reads_the_bytes_that_the_formulas_say(shared_memory, counters):
    """docs/ops.md counts a picture of 1024 x 1024 by the same formulas.

    A block has the lines of a tile of 32 x 32 pixels; a lane takes 4 lines for its 2 x 2 pixels.
    """
    widths, refinement, h, w, levels, depth = WIDTHS["small"], [32, 32], 40, 72, 2, 2
    case = render_case(widths, refinement, 1, h, w, levels, depth, torch.bfloat16)
    kernels = shared_memory("biline/cuda/render.cu", 227)
    read, once, copies = counters(kernels)
    rendered(kernels, *case, widths, refinement)
    blocks = [(min(32, h - y), min(32, w - x)) for y in range(0, h, 32) for x in range(0, w, 32)]
    line = 2 * depth * widths[0]
    weights = case[2].nbytes + case[3].nbytes
    assert once.value == sum(weights + levels * (rows + columns) * line for rows, columns in blocks)
    assert read.value == len(blocks) * weights + levels * h * w * line
    # Thread 0 copies a piece of each weight and bias of the refinement, and waits once.
    assert copies.value == 2 * 7


BackwardParams = structure(
    *((n, "p") for n in ("grad", "features", "params", "d_features", "partial")),
    *((n, "i") for n in ("batch", "height", "width", "blocks")),
)
LinesParams = structure(
    *((n, "p") for n in ("grad", "other", "d_line")),
    *((n, "i") for n in ("batch", "size", "other_size", "depth", "channels")),
    *((n, "l") for n in ("batch_stride", "stride", "other_stride")),
    ("scale", "f"),
)


@pytest.mark.parametrize(
    "name,dtype,size,depth,shared_kib,nan",
    [
        ("paper", torch.bfloat16, (2, 5, 31), 8, 227, None),
        ("paper", torch.float16, (1, 1, 1), 1, 163, None),
        ("small", torch.bfloat16, (1, 23, 17), 4, 227, None),
        ("small", torch.float16, (2, 9, 30), 2, 40, None),
        ("small", torch.bfloat16, (1, 5, 7), 2, 227, "features"),
        ("small", torch.float16, (1, 5, 7), 2, 227, "grad"),
    ],
    ids=str,
)
def test_decode_backward(name, dtype, size, depth, shared_kib, nan, shared_memory):
    """At 227 KiB of shared memory with eight warps, at 163 and 40 with four."""
    (n, h, w), widths = size, WIDTHS[name]
    tensors = decode_case(widths, n, h, w, depth, dtype)
    features, rows, columns, params = tensors
    grad = decode_case(widths, n, h, w, depth, dtype, seed=1)[0]
    if nan:
        {"features": features, "grad": grad}[nan][0, 1, 2, 3] = float("nan")
    kernels = shared_memory("biline/cuda/backward.cu", shared_kib)
    blocks = kernels.eidgan_backward_blocks(n, h, w)
    d_features, partial = poisoned(*features.shape, dtype=dtype), poisoned(blocks, len(params))
    call(
        kernels.eidgan_decode_backward,
        ctypes.byref(Configuration(DTYPES[dtype], widths)),
        BackwardParams(
            *(t.data_ptr() for t in (grad, features, params, d_features, partial)), n, h, w, blocks
        ),
    )
    d_rows, d_columns = poisoned(*rows.shape, dtype=dtype), poisoned(*columns.shape, dtype=dtype)
    lines, k = library("biline/cuda/lines.cu").eidgan_lines_backward, widths[0]
    scale = (0.5 / depth) ** 0.5
    for target, other, sizes, strides in (
        (d_rows, columns, (h, w), (w * k, k)),
        (d_columns, rows, (w, h), (k, w * k)),
    ):
        call(
            lines,
            DTYPES[dtype],
            LinesParams(
                grad.data_ptr(),
                other.data_ptr(),
                target.data_ptr(),
                n,
                *sizes,
                depth,
                k,
                h * w * k,
                *strides,
                scale,
            ),
        )
    actual = d_features, d_rows, d_columns, partial.sum(dim=0)
    plain = torch.ops.eidgan.biline_decode_backward(grad, *tensors, widths)
    exact = torch.ops.eidgan.biline_decode_backward(*(t.double() for t in (grad, *tensors)), widths)
    for a, p, e in zip(actual, plain, exact, strict=True):
        no_worse_than(a, p, e)


@pytest.mark.parametrize(
    "name,dtype,kib,forward,backward",
    [
        ("paper", torch.bfloat16, 227, True, True),
        ("paper", torch.bfloat16, 152, True, True),
        ("paper", torch.bfloat16, 99, True, False),
        ("small", torch.float16, 99, True, True),
        ("small", torch.float16, 47, True, True),
        ("small", torch.float16, 24, True, False),
        ("small", torch.float32, 227, True, False),
        ("paper", torch.float32, 99, True, False),
        ("paper", torch.float32, 48, False, False),
    ],
)
def test_what_is_covered_follows_from_shared_memory(
    shared_memory, name, dtype, kib, forward, backward
):
    """99 KiB: GeForce and the like (8.6, 8.9, 12.0); 163: A100; 227: H100, B200."""
    asked = ctypes.byref(Configuration(DTYPES[dtype], WIDTHS[name]))
    for source, function, covered in (
        ("decode", "eidgan_decode_covered", forward),
        ("backward", "eidgan_decode_backward_covered", backward),
    ):
        kernels = shared_memory(f"biline/cuda/{source}.cu", kib)
        getattr(kernels, function).restype = ctypes.c_bool
        assert getattr(kernels, function)(asked) == covered, function


@pytest.mark.parametrize("name", ["eidgan", "eidgan-fast", "eidgan-small"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_presets_for_sampling_have_a_render_kernel(shared_memory, name, dtype):
    config = preset(name)
    widths = [config.features, *config.decoder_hidden, config.features]
    kernels = shared_memory(
        "biline/cuda/render.cu", 227 if dtype == torch.float32 and name == "eidgan" else 99
    )
    kernels.eidgan_render_covered.restype = ctypes.c_bool
    assert kernels.eidgan_render_covered(
        ctypes.byref(Configuration(DTYPES[dtype], widths, config.refinement))
    )
    assert len(config.channels) <= formula.MAX_LEVELS


WeightsParams = structure(
    *((n, "p") for n in ("weight", "style", "spectrum", "out")),
    *((n, "i") for n in ("batch", "outputs", "channels", "demodulate")),
    ("gain", "f"),
    ("num_factors", "i"),
    *((f"factor{i}", "i") for i in range(12)),
)
ActParams = structure(("y", "p"), ("bias", "p"), ("rows", "l"), ("outputs", "i"), ("activate", "i"))
ActBackwardParams = structure(
    *((n, "p") for n in ("grad", "y", "d_x", "partial")),
    ("rows", "l"),
    *((n, "i") for n in ("outputs", "activate", "chunks")),
)


@pytest.mark.parametrize(
    "channels", [1, 2, 7, 16, 45, 64, 352]
)  # radices 2, 4, 8, odd, prime, and 32 x 11 as in the preset
@pytest.mark.parametrize("spectral", [True, False])
def test_modulated_weights(channels, spectral):
    g = torch.Generator().manual_seed(0)
    n, o, demodulate = 2, 9, channels % 2 == 1
    weight, style = torch.randn(o, channels, generator=g), torch.randn(n, channels, generator=g)
    spectrum = torch.randn(n, channels // 2 + 1, 2, generator=g) if spectral else None
    out = poisoned(n, o, channels)
    call(
        library("modulated_linear/cuda/modulated_linear.cu").eidgan_modulated_weights,
        0,
        WeightsParams(
            weight.data_ptr(),
            style.data_ptr(),
            spectrum.data_ptr() if spectral else None,
            out.data_ptr(),
            n,
            o,
            channels,
            demodulate,
            1.4,
            0,
            *[0] * 12,
        ),
    )

    def plain(to):
        return torch.ops.eidgan.modulated_weights(
            weight.to(to), style.to(to), spectrum.to(to) if spectral else None, demodulate, 1.4, to
        )

    no_worse_than(
        out, plain(torch.float32), plain(torch.float64), factor=4
    )  # both FFTs are near float32's last bit


@pytest.mark.parametrize("outputs", [5, 64])  # scalar and vector path
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("activate", [True, False])
def test_activation_and_its_gradient(outputs, dtype, activate):
    g = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(2, 33, outputs, generator=g).to(dtype) for _ in range(2))
    bias = torch.randn(outputs, generator=g).to(dtype)
    x[0, 1, 2] = x[0, 1, 4] = grad[1, 2, 3] = float("nan")
    x[0, 2, 0], x[0, 2, 1] = float("inf"), -float("inf")
    kernels, y = library("modulated_linear/cuda/modulated_linear.cu"), x.clone()
    call(
        kernels.eidgan_act,
        DTYPES[dtype],
        ActParams(y.data_ptr(), bias.data_ptr(), 66, outputs, activate),
    )
    expected = x.float() + bias.float()
    expected = torch.nn.functional.leaky_relu(expected, 0.2) if activate else expected
    torch.testing.assert_close(y, expected.to(dtype), equal_nan=True)

    d_x, partial = poisoned(2, 33, outputs, dtype=dtype), poisoned(3, outputs)
    call(
        kernels.eidgan_act_backward,
        DTYPES[dtype],
        ActBackwardParams(
            grad.data_ptr(),
            y.data_ptr(),
            d_x.data_ptr(),
            partial.data_ptr(),
            66,
            outputs,
            activate,
            3,
        ),
    )
    expected, d_bias = torch.ops.eidgan.act_backward(grad, y, activate)
    torch.testing.assert_close(d_x, expected, equal_nan=True)
    torch.testing.assert_close(
        partial.sum(dim=0),
        d_bias.float(),
        rtol=2e-2,
        atol=2e-2 if dtype != torch.float32 else 1e-4,
        equal_nan=True,
    )
