"""The emulation of CUDA on the host detects what the head of `emulate.h` promises."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from tests.torch_utils.emulation import (
    Checked,
    call,
    compiler,
    library,
    poisoned,
    race_checker_problem,
    structure,
)

pytestmark = pytest.mark.skipif(not compiler(), reason="no C++ compiler")
PROBES = Path(__file__).with_name("probe_kernels.cu")
SumParams = structure(("in", "p"), ("out", "p"), ("way", "i"))
DotParams = structure(("a", "p"), ("b", "p"), ("c", "f"), ("out", "p"))
ULP, TINY = 2.0**-23, 2.0**-140  # the step of float32 at 1; a subnormal number


@pytest.mark.parametrize(
    "products,start,expected",
    [
        ([1.0, ULP / 2, ULP / 2, ULP / 2], 0.0, 1.0),  # rounding the exact sum gives 1 + 2 ULP
        ([-1.0, -ULP / 2, -ULP / 2, -ULP / 2], 0.0, -1.0),
        ([ULP / 2] * 8, 1.0, 1.0),  # the accumulator is aligned like the products
        ([1.0], 1.0 + 3 * ULP, 2.0 + 2 * ULP),  # not rounded to 2 + 4 ULP
        ([2.0**-70] * 8, 0.0, 2.0**-67),  # bits are counted from the largest product, not from 1
        ([TINY] * 3, 0.0, 3 * TINY),  # subnormal numbers are exact
        ([1.0, -1.0, ULP / 2], 0.0, 0.0),  # lost although the large products cancel
        ([1.0, -1.0, 0.0, 0.0, ULP / 2], 0.0, ULP / 2),  # kept, as it is in the next block of 4
        ([float("inf"), 1.0], 1.0, float("inf")),
        ([float("inf")], -float("inf"), float("nan")),
        ([float("nan")], 0.0, float("nan")),
    ],
    ids=str,
)
def test_sums_on_tensor_cores_are_cut_off(products, start, expected):
    """Four products and the accumulator are added at once.

    They are aligned to the largest of them, and bits below those of float32 are cut off.
    """
    a, b, out = torch.zeros(8), torch.zeros(8), poisoned(1)
    for i, product in enumerate(products):
        a[i] = 2.0**-70 if product == TINY else 1.0  # TF32 cannot represent TINY
        b[i] = product / a[i].double()
    call(library(PROBES).probe_dot, DotParams(a.data_ptr(), b.data_ptr(), start, out.data_ptr()))
    torch.testing.assert_close(out, torch.tensor([expected]), rtol=0, atol=0, equal_nan=True)


# The values of `Way` in probe_kernels.cu, in their order, and what the checker reports for them.
RACE, OUTSIDE = "race", "access outside"
WAYS = {
    "right": None,
    "no barrier before a load": RACE,
    "no barrier before a store": RACE,
    "two threads store": "race of two stores",
    "two blocks store": "race of two stores",
    "a block stores to what another loaded": "race of a store with a load",
    "load before any store": "load of shared memory that nothing was stored to",
    "store beyond shared memory": f"{OUTSIDE} shared memory",
    "load beyond shared memory": f"{OUTSIDE} shared memory",
    "store before shared memory": f"{OUTSIDE} shared memory",
    "load beyond a tensor": f"{OUTSIDE} a tensor",
    "misaligned": "misaligned access",
    "a copy is waited for behind the barrier": RACE,
    "a copy into what others load": RACE,
}


@pytest.mark.skipif(race_checker_problem() is not None, reason=race_checker_problem() or "")
@pytest.mark.parametrize("way", WAYS)
def test_the_race_checker_sees(way):
    checked = Checked(PROBES)
    x, out = checked.tensor(torch.arange(64.0)), checked.tensor(poisoned(64))
    checked.kernels.probe_sum(SumParams(x.data_ptr(), out.data_ptr(), list(WAYS).index(way)), None)
    problems, expected = checked.problems(), WAYS[way]
    reported = any(line.startswith(expected) for line in problems) if expected else not problems
    assert reported, problems


@pytest.mark.parametrize(
    "way,text",
    [
        (0, None),
        (7, b"a write outside the block's shared memory"),
        (9, b"a write outside the block's shared memory"),
        (len(WAYS), b"threads of a block wait at different barriers"),
    ],
)
def test_a_launch_returns_what_the_emulation_sees(way, text):
    x, out = torch.arange(128.0), poisoned(64)
    kernels = library(PROBES)
    kernels.probe_sum.restype = ctypes.c_char_p
    problem = kernels.probe_sum(SumParams(x.data_ptr(), out.data_ptr(), way), None)
    assert problem == (text and b"emulation: " + text)
    if text is None:
        torch.testing.assert_close(out, x[:64] + x[:64].view(2, 32).roll(-1, 1).flatten())


def test_a_load_outside_shared_memory_finds_nan():
    x, out = torch.arange(128.0), poisoned(64)
    call(library(PROBES).probe_sum, SumParams(x.data_ptr(), out.data_ptr(), 8))
    assert out.view(2, 32)[:, 0].isnan().all() and out.view(2, 32)[:, 1:].isfinite().all()


@pytest.mark.parametrize("kib", [99, 227])
def test_a_kernel_is_allowed_all_shared_memory_once(kib):
    """The emulation identifies a device by its shared memory, so each size is a new device."""
    kernels = library(PROBES)
    shared = ctypes.c_size_t.in_dll(kernels, "eidgan_emulated_shared_bytes")
    before, shared.value = shared.value, kib * 1024
    try:
        for kib_of_launch in (kib, 1, 0):
            call(kernels.probe_launch, ctypes.c_size_t(kib_of_launch * 1024))
            assert kernels.probe_allowed_bytes() == kib * 1024  # the last launch does not lower it
        assert kernels.probe_allowances(8) == kernels.probe_allowances(8) == 1
        too_large = kernels.probe_launch(ctypes.c_size_t(kib * 1024 + 1), None)
        assert too_large == b"emulation: invalid argument"
    finally:
        shared.value = before
