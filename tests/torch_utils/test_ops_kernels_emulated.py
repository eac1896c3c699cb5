"""The CUDA sources of the pixel part, run on the CPU by an emulation of the GPU.

The emulation has blocks, barriers and tensor-core fragments. These tests check values: index
arithmetic, fragment layouts, rounding, and outputs that a kernel leaves unwritten (buffers start as
NaN). test_ops_races.py checks races and accesses outside the data. Only a GPU shows speed and
faults of nvcc: that is for the tests with the marker gpu.
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
)
from tests.torch_utils.kernel_cases import (
    WIDTHS,
    BackwardParams,
    DecodeParams,
    LinesParams,
    RenderParams,
    decode_case,
    no_worse_than,
    render_case,
)
from torch_utils.ops.biline import formula

pytestmark = pytest.mark.skipif(not compiler(), reason="no C++ compiler")


@pytest.fixture
def shared_memory():
    """(source, KiB) -> the library of a source on a GPU with that much shared memory a block."""
    changed = []

    def of(source: str, kib: int) -> ctypes.CDLL:
        kernels = library(source)
        changed.append(ctypes.c_size_t.in_dll(kernels, "eidgan_emulated_shared_bytes"))
        changed[-1].value = kib * 1024
        return kernels

    yield of
    for size in changed:
        size.value = 227 * 1024


@pytest.mark.slow
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
    """Weights and inputs are positive, so an infinity never cancels on its way to the output."""
    widths = WIDTHS["small"]
    storage = {code: dtype for dtype, code in DTYPES.items()}.get(dtype, torch.float32)
    features, rows, columns, params = (t.abs() for t in decode_case(widths, 1, 3, 7, 2, storage))
    features[0, 0, 1, 2] = 1.0  # exact in TF32
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "name,refinement,dtype,size,nan",
    [
        ("paper", [128, 64], torch.bfloat16, (1, 17, 37), False),
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
    """In 16 bits with the shared memory of a GeForce, so a block takes fewer pixels at a time."""
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


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pixel_does_not_depend_on_the_tile_that_it_lies_in(dtype, shared_memory):
    """A crop of the picture equals the rendered crop, which has other tiles, to the last bit."""
    widths, refinement, (h, w) = WIDTHS["small"], [32, 32], (23, 41)
    top, left = slice(3, 21), slice(5, 36)
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
    """Library -> its counters, set to 0.

    They count bytes that threads read, bytes that blocks read, and asynchronous copies.
    """

    def of(kernels: ctypes.CDLL) -> list[ctypes.c_size_t]:
        names = ("bytes_read", "bytes_once", "copies")
        values = [ctypes.c_size_t.in_dll(kernels, f"eidgan_emulated_{name}") for name in names]
        for value in values:
            value.value = 0
        return values

    return of


def test_decode_reads_the_bytes_that_the_formulas_say(shared_memory, counters):
    """A block of 8 warps loads the lines of 4 x 64 pixels; docs/ops.md has the same formulas."""
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


@pytest.mark.slow
def test_render_reads_the_bytes_that_the_formulas_say(shared_memory, counters):
    """docs/ops.md applies the same formulas to a picture of 1024 x 1024.

    A block loads the lines of a tile of 32 x 32 pixels; a lane reads 4 lines for 2 x 2 pixels.
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


@pytest.mark.slow
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
    configuration = ctypes.byref(Configuration(DTYPES[dtype], WIDTHS[name]))
    for source, function, covered in (
        ("decode", "eidgan_decode_covered", forward),
        ("backward", "eidgan_decode_backward_covered", backward),
    ):
        kernels = shared_memory(f"biline/cuda/{source}.cu", kib)
        getattr(kernels, function).restype = ctypes.c_bool
        assert getattr(kernels, function)(configuration) == covered, function


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
