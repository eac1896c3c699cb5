"""Launch every kernel in every dtype for compute-sanitizer, on pictures with partly filled tiles.

The results are not compared; tests/torch_utils/test_ops_gpu.py does that. A case is one call of one
operator. Its line is printed before the call, and the next case begins after the GPU has finished,
so the last line names the case that ended the process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.gpu_check.findings import ALL_DONE, LINE_OF_CASE
from networks.generators import preset
from networks.generators.eidgan import EidganConfig  # registers the operators, too
from torch_utils.ops.backend import check_backend
from torch_utils.ops.biline.packing import mlp_shapes, num_numbers, refinement_shapes

OPS = torch.ops.eidgan
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SIZE = (2, 19, 37)  # batch, height, width: several tiles, the last ones partly filled
PRESETS = ("eidgan", "eidgan-fast", "eidgan-small")
CHANNELS = ((352, 33), (192, 384), (7, 5))  # input and output channels of a layer
Cases = Iterator[tuple[str, Callable[[], object]]]


def biline_cases(device: torch.device, dtype: torch.dtype) -> Cases:
    """(name, call) of the pixel operators in each preset's widths, where there is a kernel."""

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device).to(dtype)

    def covered(operator: str, *sizes) -> bool:
        return device.type == "cpu" or getattr(OPS, f"{operator}_covers")(dtype, *sizes)

    n, h, w = SIZE
    for name in PRESETS:
        config = preset(name)
        assert isinstance(config, EidganConfig)
        k, depth = config.features, config.thickness
        widths, refinement = [k, *config.decoder_hidden, k], list(config.refinement)
        features, rows, columns = rand(n, h, w, k), rand(n, h, depth, k), rand(n, w, depth, k)
        params = rand(num_numbers(mlp_shapes(widths)))
        pixels = features, rows, columns, params, widths
        if covered("biline_decode", widths):
            yield f"biline_decode {name}", partial(OPS.biline_decode, *pixels)
        if covered("biline_decode_backward", widths, depth):
            yield (
                f"biline_decode_backward {name}",
                partial(OPS.biline_decode_backward, features, *pixels),
            )
        if covered("biline_render", widths, refinement):
            layers = rand(n, num_numbers(refinement_shapes(k, refinement)))
            lines = [rows] * 3, [columns] * 3
            weights = params.repeat(3, 1), layers, widths, refinement
            yield f"biline_render {name}", partial(OPS.biline_render, *lines, *weights)


def linear_cases(device: torch.device, dtype: torch.dtype) -> Cases:
    """(name, call) of the modulated layer's operators, with and without spectrum and activation.

    `linear_act` adds the bias to a matrix product of cuBLAS. Here the product has no terms, so
    cuBLAS runs no kernel, and the sanitizers see ours only.
    """

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device)

    for channels, outputs in CHANNELS:
        weight, style, size = rand(outputs, channels), rand(2, channels), f"{channels} {outputs}"
        grad = rand(2, outputs, channels).to(dtype)
        for spectrum in (rand(2, channels // 2 + 1, 2), None):
            kind = size + (" spectral" if spectrum is not None else "")
            layer = weight, style, spectrum, True, 1.0
            yield f"modulated_weights {kind}", partial(OPS.modulated_weights, *layer, dtype)
            yield (
                f"modulated_weights_backward {kind}",
                partial(OPS.modulated_weights_backward, grad, *layer),
            )
        x, no_weights = rand(2, 65, 0).to(dtype), rand(2, outputs, 0).to(dtype)
        y, bias = rand(2, 65, outputs).to(dtype), rand(outputs).to(dtype)
        for activate in (True, False):
            kind = size + (" activated" if activate else "")
            yield f"linear_act {kind}", partial(OPS.linear_act, x, no_weights, bias, activate)
            yield f"act_backward {kind}", partial(OPS.act_backward, y, y, activate)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check.kernels", description="Launch every kernel."
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--first", type=int, default=0, help="number of the first case to run")
    options = parser.parse_args()
    device = torch.device(options.device)
    check_backend("cuda" if device.type == "cuda" else "auto", device)
    number = 0
    with torch.no_grad():
        for dtype in DTYPES:
            for cases in (biline_cases, linear_cases):
                for name, call in cases(device, dtype):
                    if number >= options.first:
                        print(LINE_OF_CASE.format(number, f"{dtype} {name}"), flush=True)
                        call()
                        if device.type == "cuda":
                            torch.cuda.synchronize()
                    number += 1
    print(ALL_DONE, flush=True)


if __name__ == "__main__":
    main()
