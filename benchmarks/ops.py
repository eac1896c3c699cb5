"""Time the operators: plain PyTorch, torch.compile of it, and our kernels.

    python -m benchmarks.ops --device cuda --json FILE

FLOPs are those of the matrix products. Bytes are the least that must be moved: every input is read
once and every result is written once.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import torch

from benchmarks.harness import DTYPES, Bench, benchmark_options, numbers
from networks.generators import preset
from torch_utils.ops.backend import using
from torch_utils.ops.biline import biline_decode, biline_render, pack_pixels
from torch_utils.ops.biline.packing import mlp_shapes, num_numbers, refinement_shapes
from torch_utils.ops.modulated_linear import modulated_linear, modulated_weights


def in_mode(ops: str, call, *, grad: bool):
    def run():
        with using(ops), torch.set_grad_enabled(grad):
            return call()

    return run


def variants_of(call, wanted: list[str], *, grad: bool = False) -> dict:
    """The wanted variants of a call, by name.

    'eager' is plain PyTorch, 'compile' is torch.compile of it, and 'ours' uses our kernels.
    """
    variants = {}
    if "eager" in wanted:
        variants["eager"] = in_mode("ref", call, grad=grad)
    if "compile" in wanted:
        variants["compile"] = in_mode("ref", torch.compile(call), grad=grad)
    if "ours" in wanted:
        variants["ours"] = in_mode("auto", call, grad=grad)
    return variants


def with_backward(call, inputs: list[torch.Tensor], cotangent: torch.Tensor):
    return lambda: torch.autograd.grad(call(), inputs, cotangent)


def time_linear(
    bench: Bench, config, resolution: int, batch: int, name: str, wanted: list[str]
) -> None:
    """Time the widest trunk layer with spectral fold, at the line positions of this resolution."""
    dtype, device = DTYPES[name], bench.device
    channels, positions = max(config.channels), 2 * resolution * config.thickness
    x = torch.randn(batch, positions, channels, device=device, dtype=dtype, requires_grad=True)
    weight = torch.randn(channels, channels, device=device, requires_grad=True)
    style = torch.randn(batch, channels, device=device, requires_grad=True)
    bias = torch.zeros(channels, device=device, requires_grad=True)
    spectrum = torch.randn(
        batch, channels // 2 + 1, dtype=torch.complex64, device=device, requires_grad=True
    )
    labels = {"resolution": resolution, "batch": batch}
    flops = 2.0 * batch * positions * channels**2
    moved = (2 * x.numel() + batch * channels**2) * x.element_size()

    def weights():
        return modulated_weights(weight, style, spectrum, dtype=dtype)

    def layer():
        return modulated_linear(x, weight, style, bias, spectrum=spectrum)

    bench.case(
        {"op": "modulated_weights"} | labels,
        variants_of(weights, wanted),
        dtype=name,
        bytes_moved=weight.nbytes + batch * channels**2 * x.element_size(),
    )
    bench.case(
        {"op": "modulated_linear"} | labels,
        variants_of(layer, wanted),
        flops=flops,
        bytes_moved=moved,
        dtype=name,
    )
    step = with_backward(layer, [x, weight, style, bias, spectrum], torch.randn_like(x))
    bench.case(
        {"op": "modulated_linear+backward"} | labels,
        variants_of(step, [v for v in wanted if v != "compile"], grad=True),
        flops=3 * flops,
        bytes_moved=3 * moved,
        dtype=name,
    )


def time_pixels(
    bench: Bench, config, resolution: int, batch: int, name: str, wanted: list[str]
) -> None:
    """Time one level, one level with its backward, and the whole chain from lines to RGB."""
    dtype, device = DTYPES[name], bench.device
    widths, depth = [config.features, *config.decoder_hidden, config.features], config.thickness
    k, levels, labels = widths[0], len(config.channels), {"resolution": resolution, "batch": batch}

    def rand(*shape):
        return torch.randn(*shape, device=device, dtype=dtype)

    def layers(shapes, *lead):
        return [(rand(*lead, o, c) / c**0.5, rand(o)) for o, c in shapes]

    features = rand(batch, resolution, resolution, k).requires_grad_()
    lines = [
        [rand(batch, resolution, depth, k).requires_grad_() for _ in range(levels)]
        for _ in range(2)
    ]
    decoders = [tuple(zip(*layers(mlp_shapes(widths)), strict=False)) for _ in range(levels)]
    weights, biases = ([t.clone().requires_grad_() for t in group] for group in decoders[0])
    pixels = batch * resolution**2
    flops = 2.0 * pixels * (num_numbers(mlp_shapes(widths)) - sum(widths[1:]) + depth * k)
    moved = 2.0 * pixels * k * features.element_size()

    def level():
        return biline_decode(features, lines[0][0], lines[1][0], weights, biases)

    bench.case(
        {"op": "biline_decode"} | labels,
        variants_of(level, wanted),
        flops=flops,
        bytes_moved=moved,
        dtype=name,
    )
    step = with_backward(
        level, [features, lines[0][0], lines[1][0], *weights, *biases], rand(*features.shape)
    )
    # The FLOPs are those of the forward, its recomputation, and two matrix products for each layer.
    bench.case(
        {"op": "biline_decode+backward"} | labels,
        variants_of(step, [v for v in wanted if v != "compile"], grad=True),
        flops=4 * flops,
        bytes_moved=2.5 * moved,
        dtype=name,
    )

    shapes = refinement_shapes(k, config.refinement)
    refinement = layers(shapes, batch)
    pairs = [refinement[i : i + 2] for i in range(1, len(refinement), 3)]
    case = (*lines, decoders, [tuple(zip(*pair, strict=False)) for pair in pairs], refinement[0::3])
    total = flops * levels + 2.0 * pixels * sum(o * c for o, c in shapes)

    def plain():
        from networks.layers.linear import unit_second_moment
        from torch_utils.ops.biline import biline_compose, pixel_mlp
        from torch_utils.ops.biline.reference import biline_decode as plain_decode
        from torch_utils.ops.biline.reference import refine

        phi = biline_compose(case[0][0], case[1][0])
        for (w, b), rows, columns in zip(decoders, case[0][1:], case[1][1:], strict=False):
            phi = plain_decode(phi, rows, columns, w, b)
        return refine(unit_second_moment(pixel_mlp(phi, *decoders[-1])).flatten(1, 2), *case[3:])

    chain = variants_of(plain, [v for v in wanted if v != "ours"])
    if "ours" in wanted:
        packed = pack_pixels(*case[2:])
        render = partial(biline_render, lines[0], lines[1], packed)
        chain["ours"] = in_mode("auto", render, grad=False)
    bench.case(
        {"op": "biline_render"} | labels,
        chain,
        flops=total,
        images=batch,
        dtype=name,
        bytes_moved=pixels * 12.0 + 2 * levels * lines[0][0].nbytes,
    )


@click.command()
@benchmark_options("256,1024", "1,8")
@click.option(
    "--generator", default="eidgan", show_default=True, help="Preset whose widths are used."
)
def main(
    generator: str,
    device: str,
    resolutions: str,
    batches: str,
    dtypes: str,
    variants: str,
    rounds: int,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Time the operators."""
    arguments = dict(locals())
    bench, config, wanted = Bench("ops", arguments), preset(generator), variants.split(",")
    for name in dtypes.split(","):
        for resolution in numbers(resolutions):
            for batch in numbers(batches):
                time_linear(bench, config, resolution, batch, name, wanted)
                time_pixels(bench, config, resolution, batch, name, wanted)
                torch._dynamo.reset()


if __name__ == "__main__":
    main()
