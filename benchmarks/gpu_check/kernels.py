"""Launch every kernel in every dtype for compute-sanitizer, on pictures with partly filled tiles.

The results are not compared; tests/torch_utils/test_ops_gpu.py does that.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch

from networks.generators import preset
from networks.generators.eidgan import EidganConfig  # registers the operators, too
from torch_utils.ops.backend import check_backend
from torch_utils.ops.biline.packing import mlp_shapes, num_numbers, refinement_shapes

OPS = torch.ops.eidgan
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SIZE = (2, 19, 37)  # batch, height, width: several tiles, the last ones partly filled
PRESETS = ("eidgan", "eidgan-fast", "eidgan-small")
CHANNELS = ((352, 33), (192, 384), (7, 5))  # input and output channels of a layer


def biline_calls(device: torch.device, dtype: torch.dtype) -> Iterator[str]:
    """Run the pixel operators in each preset's widths if there is a kernel; yield their names."""

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
        if covered("biline_decode", widths):
            OPS.biline_decode(features, rows, columns, params, widths)
            yield f"biline_decode {name}"
        if covered("biline_decode_backward", widths, depth):
            OPS.biline_decode_backward(features, features, rows, columns, params, widths)
            yield f"biline_decode_backward {name}"
        if covered("biline_render", widths, refinement):
            layers = rand(n, num_numbers(refinement_shapes(k, refinement)))
            lines = [rows] * 3, [columns] * 3
            OPS.biline_render(*lines, params.repeat(3, 1), layers, widths, refinement)
            yield f"biline_render {name}"


def linear_calls(device: torch.device, dtype: torch.dtype) -> Iterator[str]:
    """Run the modulated layer's operators with and without spectrum and activation; yield names."""

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device)

    for channels, outputs in CHANNELS:
        for spectrum in (rand(2, channels // 2 + 1, 2), None):
            weight, style = rand(outputs, channels), rand(2, channels)
            weights = OPS.modulated_weights(weight, style, spectrum, True, 1.0, dtype)
            grad = torch.randn_like(weights)
            OPS.modulated_weights_backward(grad, weight, style, spectrum, True, 1.0)
            for activate in (True, False):
                x, bias = rand(2, 65, channels).to(dtype), rand(outputs).to(dtype)
                y = OPS.linear_act(x, weights, bias, activate)
                OPS.act_backward(y, y, activate)
        yield f"modulated layer {channels} -> {outputs}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check.kernels", description="Launch every kernel."
    )
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args().device)
    check_backend("cuda" if device.type == "cuda" else "auto", device)
    with torch.no_grad():
        for dtype in DTYPES:
            for call in (*biline_calls(device, dtype), *linear_calls(device, dtype)):
                print(f"{dtype}: {call}", flush=True)
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
