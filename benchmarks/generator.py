"""Time a generator's forward, from text features to pictures.

    python -m benchmarks.generator --device cuda --json FILE

Variants: `literal` computes the equations as they are written (benchmarks/literal.py); `eager` is
plain PyTorch with folded constants (--ops ref); `compile` is torch.compile of `eager`; `ours` uses
our kernels; `graph` replays `ours` as one CUDA graph. The deviation of a variant is the largest
difference from the pictures of the first variant, divided by their root mean square.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import click
import torch

from benchmarks.harness import DTYPES, Bench, benchmark_options, numbers
from benchmarks.literal import literal as unfused
from networks.coordinates import View
from networks.describe import describe
from networks.generators import preset
from networks.interfaces import TextFeatures
from networks.sampling import render_tiled
from torch_utils.ops.backend import using


def text_for(config, batch: int, device) -> TextFeatures:
    """Random text features of 77 tokens, because the text encoder is not timed."""
    return TextFeatures(
        torch.randn(batch, config.sentence_dim, device=device),
        torch.randn(batch, 77, config.word_dim, device=device),
        torch.ones(batch, 77, dtype=torch.bool, device=device),
    )


def drawing(generator, inputs, view: View):
    """A function without arguments that draws the pictures as generate.py does, in tiles."""

    def run():
        with torch.no_grad():
            return render_tiled(generator, generator.mapping(*inputs), view)

    return run


def forward(generator, inputs, view: View, ops: str, dtype: torch.dtype, *, literal: bool = False):
    """A function without arguments that generates the pictures."""
    device = inputs[0].device.type

    def run():
        form = unfused() if literal else contextlib.nullcontext()
        with (
            using(ops),
            torch.no_grad(),
            form,
            torch.autocast(device, dtype, enabled=dtype != torch.float32),
        ):
            return generator(*inputs, view)

    return run


def as_graph(call):
    """A function that captures `call` as a CUDA graph at first, and replays the graph later."""
    graph: list[torch.cuda.CUDAGraph] = []

    def run():
        if not graph:
            graph.append(captured(call))
        graph[0].replay()

    return run


def captured(call) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


def variants_of(generator, inputs, view: View, dtype: torch.dtype, wanted: list[str]) -> dict:
    makers = {
        "literal": lambda: forward(generator, inputs, view, "ref", dtype, literal=True),
        "eager": lambda: forward(generator, inputs, view, "ref", dtype),
        "compile": lambda: forward(torch.compile(generator), inputs, view, "ref", dtype),
        "ours": lambda: forward(generator, inputs, view, "auto", dtype),
        "graph": lambda: as_graph(forward(generator, inputs, view, "auto", dtype)),
    }
    return {name: makers[name]() for name in wanted}


@click.command()
@benchmark_options("256,1024", "1,8")
@click.option(
    "--generator",
    "names",
    default="eidgan",
    show_default=True,
    metavar="A,B",
    help="Presets to time.",
)
def main(
    names: str,
    device: str,
    resolutions: str,
    batches: str,
    dtypes: str,
    variants: str,
    rounds: int,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Time a generator's forward."""
    arguments = dict(locals())
    bench, wanted = Bench("generator", arguments), variants.split(",")
    for name in names.split(","):
        config = preset(name)
        torch.manual_seed(0)
        generator = config.build().to(device).eval()
        parameter_bytes = 4.0 * sum(p.numel() for p in generator.parameters())
        for resolution in numbers(resolutions):
            view, macs = View.square(resolution), describe(config, View.square(resolution))["macs"]
            for batch in numbers(batches):
                inputs = (
                    torch.randn(batch, *generator.latent_shape, device=device),
                    text_for(config, batch, device),
                )
                for dtype in dtypes.split(","):
                    bench.case(
                        {"generator": name, "resolution": resolution, "batch": batch},
                        variants_of(generator, inputs, view, DTYPES[dtype], wanted),
                        images=batch,
                        dtype=dtype,
                        flops=2.0 * macs * batch,
                        bytes_moved=parameter_bytes + 12.0 * batch * resolution**2,
                        compare=True,
                    )
                    torch._dynamo.reset()


if __name__ == "__main__":
    main()
