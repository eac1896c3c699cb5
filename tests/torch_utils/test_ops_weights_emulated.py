"""The CUDA kernel of modulated_weights_backward, emulated: see test_ops_kernels_emulated.py."""

from __future__ import annotations

import ctypes

import pytest
import torch

from tests.torch_utils.emulation import DTYPES, call, compiler, library, poisoned, structure
from tests.torch_utils.test_ops_kernels_emulated import no_worse_than

pytestmark = pytest.mark.skipif(not compiler(), reason="no C++ compiler")
SOURCE = "modulated_linear/cuda/weights_backward.cu"
POINTERS = "grad", "weight", "style", "spectrum", "d_weight", "d_style", "d_spectrum"
Params = structure(
    *((name, "p") for name in POINTERS),
    *((name, "i") for name in ("batch", "outputs", "channels", "demodulate")),
    ("gain", "f"),
    ("chunks", "i"),
    ("num_factors", "i"),
    *((f"factor{i}", "i") for i in range(12)),
)
SumParams = structure(
    *(
        (f"{name}{i}", kind)
        for name, kind in (("partial", "p"), ("total", "p"), ("count", "l"), ("slices", "i"))
        for i in range(3)
    )
)


def case(n, o, c, spectral, dtype=torch.float32):
    """grad, weight, style and spectrum (None without one)."""
    g = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.randn(*shape, generator=g)

    spectrum = rand(n, c // 2 + 1, 2) if spectral else None
    return rand(n, o, c).to(dtype), rand(o, c), rand(n, c), spectrum


def emulated(kernels, grad, weight, style, spectrum, demodulate, chunks=None):
    sizes = n, o, c = grad.shape
    spectral = spectrum is not None
    groups = kernels.eidgan_weights_backward_groups(o, c, spectral)
    chunks = chunks or kernels.eidgan_weights_backward_chunks(n, o, c, spectral)
    likes = weight, style, spectrum if spectral else torch.empty(0)
    slices = chunks, groups, groups
    partial = [poisoned(count, *like.shape) for count, like in zip(slices, likes, strict=True)]
    totals = [poisoned(*like.shape) for like in likes]

    def pointers(*tensors):
        return [None if x is None else x.data_ptr() for x in tensors]

    call(
        kernels.eidgan_weights_backward,
        DTYPES[grad.dtype],
        Params(
            *pointers(grad, weight, style, spectrum, *partial),
            *sizes,
            demodulate,
            1.4,
            chunks,
            *[0] * 13,
        ),
    )
    call(
        kernels.eidgan_sum_partial,
        SumParams(*pointers(*partial, *totals), *(like.numel() for like in likes), *slices),
    )
    return totals


def check(actual, tensors, demodulate):
    """Relative errors at most 4 times plain PyTorch's: its FFTs are near float32's last bit."""

    def plain(dtype):
        grad, *rest = (None if x is None else x.to(dtype) for x in tensors)
        return torch.ops.eidgan.modulated_weights_backward(grad, *rest, demodulate, 1.4)

    for a, p, e in zip(actual, plain(torch.float32), plain(torch.float64), strict=True):
        if e.numel():
            no_worse_than(a, p, e, factor=4)


# Radices 2, 4, 8, odd, prime, and 32 x 11 as in the preset.
@pytest.mark.parametrize("channels", [1, 2, 7, 16, 45, 352])
@pytest.mark.parametrize("spectral", [True, False])
def test_gradients_of_the_weights(channels, spectral):
    tensors, demodulate = case(3, 9, channels, spectral), channels not in (2, 45)
    check(emulated(library(SOURCE), *tensors, demodulate), tensors, demodulate)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("spectral", [True, False])
def test_gradients_in_16_bits(dtype, spectral):
    """Computed in float32: only the gradient that comes in has 16 bits."""
    tensors = case(2, 3, 24, spectral, dtype)
    check(emulated(library(SOURCE), *tensors, True), tensors, True)


@pytest.mark.parametrize("kib,rows", [(227, 8), (7, 8), (6, 2)])
@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_any_number_of_rows_and_of_parts_of_the_batch(kib, rows, chunks):
    """A block's rows follow from its shared memory; parts are uneven and every slice is written."""
    kernels = library(SOURCE)
    limit = ctypes.c_size_t.in_dll(kernels, "eidgan_emulated_shared_bytes")
    before, limit.value = limit.value, kib * 1024
    try:
        assert kernels.eidgan_weights_backward_groups(9, 48, True) == -(-9 // rows)
        tensors = case(5, 9, 48, True)
        check(emulated(kernels, *tensors, True, chunks), tensors, True)
    finally:
        limit.value = before
