"""The CUDA sources of the modulated linear layer in the emulation.

test_ops_kernels_emulated.py says what the emulation checks.
"""

from __future__ import annotations

import ctypes

import pytest
import torch

from tests.torch_utils.emulation import DTYPES, call, compiler, library, poisoned
from tests.torch_utils.kernel_cases import (
    ActBackwardParams,
    ActParams,
    SumParams,
    WeightsBackwardParams,
    WeightsParams,
    no_worse_than,
)

pytestmark = pytest.mark.skipif(not compiler(), reason="no C++ compiler")
SOURCE = "modulated_linear/cuda/weights_backward.cu"


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
    inputs = weight, style, spectrum if spectral else torch.empty(0)
    slices = chunks, groups, groups
    partial = [poisoned(count, *x.shape) for count, x in zip(slices, inputs, strict=True)]
    totals = [poisoned(*x.shape) for x in inputs]

    def pointers(*tensors):
        return [None if x is None else x.data_ptr() for x in tensors]

    call(
        kernels.eidgan_weights_backward,
        DTYPES[grad.dtype],
        WeightsBackwardParams(
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
        SumParams(*pointers(*partial, *totals), *(x.numel() for x in inputs), *slices),
    )
    return totals


def check(actual, tensors, demodulate):
    """Errors are at most 4 times those of plain PyTorch, whose FFTs are nearly exact in float32."""

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
    """The kernel computes in float32; only the incoming gradient has 16 bits."""
    tensors = case(2, 3, 24, spectral, dtype)
    check(emulated(library(SOURCE), *tensors, True), tensors, True)


@pytest.mark.parametrize("kib,rows", [(227, 8), (7, 8), (6, 2)])
@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_any_number_of_rows_and_of_parts_of_the_batch(kib, rows, chunks):
    """The shared memory of a block limits its rows; chunks are uneven; every slice is written."""
    kernels = library(SOURCE)
    limit = ctypes.c_size_t.in_dll(kernels, "eidgan_emulated_shared_bytes")
    before, limit.value = limit.value, kib * 1024
    try:
        assert kernels.eidgan_weights_backward_groups(9, 48, True) == -(-9 // rows)
        tensors = case(5, 9, 48, True)
        check(emulated(kernels, *tensors, True, chunks), tensors, True)
    finally:
        limit.value = before


# Radices 2, 4, 8, odd, prime, and 32 x 11 as in the preset.
@pytest.mark.parametrize("channels", [1, 2, 7, 16, 45, 64, 352])
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

    # The factor is 4, because the FFTs of plain PyTorch are nearly exact in float32.
    no_worse_than(out, plain(torch.float32), plain(torch.float64), factor=4)


@pytest.mark.parametrize("outputs", [5, 64])  # the scalar and the vector path of the kernel
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
