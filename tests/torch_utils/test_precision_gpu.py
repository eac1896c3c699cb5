"""Whether products in float32 on a GPU are full float32 where `no_tf32` says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from torch_utils.precision import no_tf32

pytestmark = pytest.mark.gpu
BACKENDS: Any = torch.backends


def inputs():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 64, 32, 32, generator=g)
    return x.cuda(), (torch.randn(64, 64, 3, 3, generator=g) / 24).cuda()


# Calls of (x [2, 64, 32, 32], w [64, 64, 3, 3]) that cuBLAS, cuDNN and cuFFT compute.
CALLS = {
    "matmul": lambda x, w: x.flatten(2).mT @ w[..., 0, 0],
    "addmm": lambda x, w: torch.addmm(x[0, 0, 0, :1], x[0].flatten(1).t(), w[..., 0, 0]),
    "baddbmm": lambda x, w: torch.baddbmm(
        x[:, :1, :1, 0], x.flatten(2).mT, w[None, ..., 0, 0].expand(2, -1, -1)
    ),
    "einsum": lambda x, w: torch.einsum("nchw,oc->nohw", x, w[..., 0, 0]),
    "conv2d": lambda x, w: functional.conv2d(x, w, padding=1),
    "conv_transpose2d": lambda x, w: functional.conv_transpose2d(x, w, stride=2),
    "rfft": lambda x, w: torch.view_as_real(torch.fft.rfft(x * w[0, :, :1, :1])),
}
TF32_DOES_NOTHING = {"rfft"}


def error(call):
    """The largest error, relative to float64, of the result and of both gradients."""
    results = []
    for dtype in (torch.float32, torch.float64):
        tensors = [t.to(dtype).requires_grad_() for t in inputs()]
        y = call(*tensors)
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), tensors)])
    return max(
        float((actual.double() - exact).norm() / exact.norm())
        for actual, exact in zip(*results, strict=True)
    )


@pytest.mark.parametrize("name", CALLS)
def test_no_tf32_gives_float32_where_tf32_was_allowed(name):
    operations = BACKENDS.cuda.matmul, BACKENDS.cudnn.conv
    before = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = "tf32"
        allowed = error(CALLS[name])
        with no_tf32():
            forbidden = error(CALLS[name])
    finally:
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision
    assert forbidden < 1e-5
    if name not in TF32_DOES_NOTHING:
        assert allowed > 3e-5, "this GPU has no TF32, or the test does not reach it"
