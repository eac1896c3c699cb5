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
from torch_utils.ops.biline.packing import mlp_shapes, num_numbers

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
