"""Inputs, C structures and the error bound that the tests of the emulated kernels share."""

from __future__ import annotations

import torch

from tests.torch_utils.emulation import structure
from torch_utils.ops.biline.packing import mlp_shapes, pack, refinement_shapes

WIDTHS = {"paper": [32, 64, 128, 64, 32], "small": [16, 32, 32, 16]}
DecodeParams = structure(
    *((n, "p") for n in ("features", "rows", "columns", "params", "out")),
    *((n, "i") for n in ("batch", "height", "width", "depth")),
)
RenderParams = structure(
    ("rows", "levels"),
    ("columns", "levels"),
    *((n, "p") for n in ("decoders", "refinement", "image")),
    *(
        (n, "i")
        for n in ("batch", "height", "width", "depth", "levels", "refinement_numbers", "sets")
    ),
)
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
POINTERS = "grad", "weight", "style", "spectrum", "d_weight", "d_style", "d_spectrum"
WeightsBackwardParams = structure(
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


def decode_case(widths, n=2, h=5, w=7, d=3, dtype=torch.float32, seed=0):
    """Features, rows, columns and packed weights of `biline_decode`."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.randn(*shape, generator=g).to(dtype)

    layers = [(rand(o, c) / c**0.5, rand(o)) for o, c in mlp_shapes(widths)]
    params = pack(*zip(*layers, strict=True))
    return rand(n, h, w, widths[0]), rand(n, h, d, widths[0]), rand(n, w, d, widths[0]), params


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


def no_worse_than(actual, plain, exact, factor=2.0):
    """Compare the relative error against float64 with that of plain PyTorch in the same precision.

    The error may be `factor` times as large. NaN must be at the same positions.
    """
    assert torch.equal(actual.isnan(), plain.isnan())
    actual, plain, exact = (x[~plain.isnan()].double() for x in (actual, plain, exact))
    error, allowed, scale = (
        (x - y).norm() for x, y in ((actual, exact), (plain, exact), (exact, 0))
    )
    assert error <= factor * allowed + 1e-7 * scale, (float(error), float(allowed), float(scale))
