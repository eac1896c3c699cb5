"""The emulation of CUDA on the host shows what the head of `emulate.h` says that it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.torch_utils.emulation import call, compiler, library, poisoned, structure

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
PROBES = Path(__file__).with_name("probe_kernels.cu")
DotParams = structure(("a", "p"), ("b", "p"), ("c", "f"), ("out", "p"))
ULP, TINY = 2.0 ** -23, 2.0 ** -140  # float32's step at 1; a subnormal number


@pytest.mark.parametrize("products,start,expected", [
    ([1.0, ULP / 2, ULP / 2, ULP / 2], 0.0, 1.0),  # rounded from the exact sum it is 1 + 2 ULP
    ([-1.0, -ULP / 2, -ULP / 2, -ULP / 2], 0.0, -1.0),
    ([ULP / 2] * 8, 1.0, 1.0),  # the accumulator is aligned like the products
    ([1.0], 1.0 + 3 * ULP, 2.0 + 2 * ULP),  # not rounded to 2 + 4 ULP
    ([2.0 ** -70] * 8, 0.0, 2.0 ** -67),  # bits are counted from the largest, not from 1
    ([TINY] * 3, 0.0, 3 * TINY),  # a subnormal number, exact
    ([1.0, -1.0, ULP / 2], 0.0, 0.0),  # lost although the large ones cancel
    ([1.0, -1.0, 0.0, 0.0, ULP / 2], 0.0, ULP / 2),  # kept in the block behind
    ([float("inf"), 1.0], 1.0, float("inf")), ([float("inf")], -float("inf"), float("nan")),
    ([float("nan")], 0.0, float("nan"))], ids=str)
def test_sums_on_tensor_cores_are_cut_off(products, start, expected):
    """Four products and the accumulator at once, aligned to the largest, no bit below float32's."""
    a, b, out = torch.zeros(8), torch.zeros(8), poisoned(1)
    for i, product in enumerate(products):
        a[i] = 2.0 ** -70 if product == TINY else 1.0  # TF32 holds no number as small as TINY
        b[i] = product / a[i].double()
    call(library(PROBES).probe_dot, DotParams(a.data_ptr(), b.data_ptr(), start, out.data_ptr()))
    torch.testing.assert_close(out, torch.tensor([expected]), rtol=0, atol=0, equal_nan=True)
