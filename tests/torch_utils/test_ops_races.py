"""The CUDA kernels under the race checker: no race, no access outside the data, needed barriers.

The sources run in the emulation with a hook at every load and store (`race_checker.cpp`). Then they
run without each single barrier: if no race is reported, the barrier is superfluous.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.torch_utils.emulation import (
    DTYPES,
    OPS,
    TF32,
    Checked,
    Configuration,
    call,
    poisoned,
    race_checker_problem,
)
from tests.torch_utils.kernel_cases import (
    WIDTHS,
    ActBackwardParams,
    ActParams,
    BackwardParams,
    DecodeParams,
    LinesParams,
    RenderParams,
    SumParams,
    WeightsBackwardParams,
    WeightsParams,
    decode_case,
    render_case,
)

PROBLEM = race_checker_problem()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROBLEM is not None, reason=PROBLEM or "")]
STORAGE = {code: dtype for dtype, code in DTYPES.items()} | {TF32: torch.float32}
F32, F16, BF16 = (DTYPES[dtype] for dtype in (torch.float32, torch.float16, torch.bfloat16))


def decode(checked: Checked, code=BF16, name="small", size=(2, 3, 7)) -> None:
    widths, (n, h, w), d = WIDTHS[name], size, 2
    tensors = [checked.tensor(t) for t in decode_case(widths, n, h, w, d, STORAGE[code])]
    out = checked.tensor(poisoned(n, h, w, widths[0], dtype=STORAGE[code]))
    call(
        checked.kernels.eidgan_decode,
        ctypes.byref(Configuration(code, widths)),
        DecodeParams(*(t.data_ptr() for t in (*tensors, out)), n, h, w, d),
    )


def render(checked: Checked, code=BF16, name="small", size=(1, 3, 7), levels=2) -> None:
    """Run the render kernel. At 512 pixels in float32 a warp takes two sets of pixels."""
    widths, refinement = WIDTHS[name], {"small": (64, 32), "paper": (128, 64)}[name]
    (n, h, w), d = size, 2
    *lines, decoders, layers = render_case(widths, refinement, n, h, w, levels, d, STORAGE[code])
    pointers = (
        (ctypes.c_void_p * 16)(*(checked.tensor(line).data_ptr() for line in side))
        for side in lines
    )
    numbers = [checked.tensor(t) for t in (decoders, layers, poisoned(n, 3, h, w))]
    call(
        checked.kernels.eidgan_render,
        ctypes.byref(Configuration(code, widths, refinement)),
        RenderParams(
            *pointers, *(t.data_ptr() for t in numbers), n, h, w, d, levels, layers.shape[1], 0
        ),
    )


def backward(checked: Checked, code=BF16, name="small", size=(1, 3, 43), kib=227) -> None:
    """Run the backward kernel with one block.

    It takes 64 pixels at a time, or 128 if they fit the shared memory of `kib` KiB.
    """
    widths, (n, h, w), blocks, dtype = WIDTHS[name], size, 1, STORAGE[code]
    features, _, _, params = (checked.tensor(t) for t in decode_case(widths, n, h, w, 1, dtype))
    grad, d_features = (checked.tensor(torch.ones_like(features)) for _ in range(2))
    partial = checked.tensor(poisoned(blocks, len(params)))
    shared = ctypes.c_size_t.in_dll(checked.kernels, "eidgan_emulated_shared_bytes")
    before, shared.value = shared.value, kib * 1024
    try:
        call(
            checked.kernels.eidgan_decode_backward,
            ctypes.byref(Configuration(code, widths)),
            BackwardParams(
                *(t.data_ptr() for t in (grad, features, params, d_features, partial)),
                n,
                h,
                w,
                blocks,
            ),
        )
    finally:
        shared.value = before


def lines(checked: Checked, code=BF16, depth=2, channels=16) -> None:
    n, h, w = 2, 5, 19
    grad, other, d_line = (
        checked.tensor(torch.ones(shape, dtype=STORAGE[code]))
        for shape in ((n, h, w, channels), (n, w, depth, channels), (n, h, depth, channels))
    )
    call(
        checked.kernels.eidgan_lines_backward,
        code,
        LinesParams(
            grad.data_ptr(),
            other.data_ptr(),
            d_line.data_ptr(),
            n,
            h,
            w,
            depth,
            channels,
            h * w * channels,
            w * channels,
            channels,
            1.0,
        ),
    )


def weights(checked: Checked, code=F32, channels=48, outputs=9) -> None:
    n = 2
    weight, style, spectrum = (
        checked.tensor(torch.ones(shape))
        for shape in ((outputs, channels), (n, channels), (n, channels // 2 + 1, 2))
    )
    out = checked.tensor(poisoned(n, outputs, channels, dtype=STORAGE[code]))
    call(
        checked.kernels.eidgan_modulated_weights,
        code,
        WeightsParams(
            *(t.data_ptr() for t in (weight, style, spectrum, out)),
            n,
            outputs,
            channels,
            1,
            1.0,
            0,
            *[0] * 12,
        ),
    )


def weights_backward(checked: Checked, code=F32, channels=48, spectral=True, outputs=9) -> None:
    """Run the backward of the weights. Two blocks share three samples of the same rows."""
    n, chunks, frequencies = 3, 2, channels // 2 + 1 if spectral else 0
    groups = checked.kernels.eidgan_weights_backward_groups(outputs, channels, spectral)
    totals = (outputs, channels), (n, channels), (n, frequencies, 2)
    inputs = [checked.tensor(torch.ones(shape)) for shape in totals]
    grad = checked.tensor(torch.ones(n, outputs, channels, dtype=STORAGE[code]))
    slices = chunks, groups, groups
    partial = [
        checked.tensor(poisoned(*shape))
        for shape in ((count, *total) for count, total in zip(slices, totals, strict=True))
    ]
    sums = [checked.tensor(poisoned(*total)) for total in totals]
    pointers = [x.data_ptr() if x.numel() else None for x in (grad, *inputs, *partial)]
    call(
        checked.kernels.eidgan_weights_backward,
        code,
        WeightsBackwardParams(*pointers, n, outputs, channels, 1, 1.0, chunks, *[0] * 13),
    )
    call(
        checked.kernels.eidgan_sum_partial,
        SumParams(*(x.data_ptr() for x in (*partial, *sums)), *(x.numel() for x in sums), *slices),
    )


def activation(checked: Checked, code=F32, outputs=40) -> None:
    rows, chunks = 66, 3
    x, grad, d_x, bias = (
        checked.tensor(torch.ones(shape, dtype=STORAGE[code]))
        for shape in (*[(rows, outputs)] * 3, (outputs,))
    )
    partial = checked.tensor(poisoned(chunks, outputs))
    call(
        checked.kernels.eidgan_act,
        code,
        ActParams(x.data_ptr(), bias.data_ptr(), rows, outputs, True),
    )
    call(
        checked.kernels.eidgan_act_backward,
        code,
        ActBackwardParams(
            *(t.data_ptr() for t in (grad, x, d_x, partial)), rows, outputs, True, chunks
        ),
    )


def modulated_linear(checked: Checked) -> None:
    weights(checked)
    activation(checked)


KERNELS: dict[str, Callable[..., None]] = {
    "biline/cuda/backward.cu": backward,
    "biline/cuda/decode.cu": decode,
    "biline/cuda/lines.cu": lines,
    "biline/cuda/render.cu": render,
    "modulated_linear/cuda/modulated_linear.cu": modulated_linear,
    "modulated_linear/cuda/weights_backward.cu": weights_backward,
}
# A header is checked as a part of the source that it was written for.
INCLUDED_BY = {"modulated_linear/cuda/fft.h": "modulated_linear/cuda/modulated_linear.cu"}
SOURCE_OF = {run: source for source, run in KERNELS.items()} | dict.fromkeys(
    (weights, activation), "modulated_linear/cuda/modulated_linear.cu"
)


@pytest.mark.parametrize(
    "run,options",
    [
        *(
            (decode, {"code": code, "name": name})
            for code in (F32, TF32, F16, BF16)
            for name in WIDTHS
        ),
        (render, {"code": F32, "size": (1, 16, 32), "levels": 1}),
        (render, {"code": F16, "size": (2, 3, 7)}),
        (render, {"code": BF16, "name": "paper", "size": (1, 1, 1), "levels": 1}),
        (render, {"code": TF32, "name": "paper", "size": (1, 1, 1), "levels": 1}),
        (backward, {"code": BF16, "name": "paper", "size": (1, 1, 1)}),
        (backward, {"code": F16, "name": "paper", "size": (1, 1, 1), "kib": 163}),
        (backward, {"code": BF16}),
        (backward, {"code": F16, "kib": 40}),
        (lines, {"code": BF16, "depth": 8, "channels": 32}),
        (lines, {"code": F16, "depth": 4}),
        (lines, {"code": BF16, "channels": 128}),
        (lines, {"code": F16, "depth": 1, "channels": 32}),
        (weights, {"channels": 352}),
        (weights, {"code": BF16, "channels": 7}),
        (weights, {"code": F16, "channels": 64}),
        (weights_backward, {"channels": 352}),
        (weights_backward, {"code": BF16, "channels": 7}),
        (weights_backward, {"code": F16, "channels": 33, "spectral": False}),
        (activation, {"outputs": 5}),
        (activation, {"outputs": 64}),
        (activation, {"code": BF16, "outputs": 64}),
        (activation, {"code": F16, "outputs": 7}),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_no_race_and_no_access_outside_the_data(run, options):
    checked = Checked(SOURCE_OF[run])
    run(checked, **options)
    assert not checked.problems()


def barriers() -> list[str]:
    """`folder/file:line` of every barrier in the kernels' sources and headers."""

    def lines_of(path: Path):
        return enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)

    return [
        f"{path.relative_to(OPS)}:{number}"
        for path in sorted(OPS.rglob("*/cuda/*.*"))
        for number, line in lines_of(path)
        if re.match(r"\s*__syncthreads\(\)", line)
    ]


@pytest.mark.parametrize("barrier", barriers())
def test_every_barrier_is_needed(barrier):
    file = barrier.rpartition(":")[0]
    source = INCLUDED_BY.get(file, file)
    checked = Checked(source)
    removed = ctypes.c_char_p.in_dll(checked.kernels, "eidgan_removed_barrier")
    try:
        removed.value = barrier.encode()
        KERNELS[source](checked)
    finally:
        removed.value = b""
    races = [problem for problem in checked.problems() if problem.startswith("race")]
    assert races, f"without the barrier in {barrier} nothing races: delete it"


def test_the_documentation_counts_the_barriers():
    text = (Path(__file__).parents[2] / "docs/ops.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+\.(?:cu|h))` \| (\d+) of (\d+) \|$", text, flags=re.MULTILINE)
    counts = Counter(barrier.rpartition(":")[0] for barrier in barriers())
    assert sorted(rows) == [(source, str(n), str(n)) for source, n in sorted(counts.items())]
