"""Time the training step of recipes: `python -m benchmarks.recipe_step --device cuda --json FILE`.

A step is `Trainer.step`: everything but reading pictures, encoding captions and writing files. The
pictures are noise, patches lie as in pictures of four times their side, and the text features are
random. Variants: `eager` is plain PyTorch (`--ops ref`), `ours` uses our kernels, and `graph` runs
`ours` as CUDA graphs (`--cuda-graph on`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.harness import Bench, numbers, timing_options
from benchmarks.systems import EncodedTexts
from configs import recipe
from dnnlib.errors import UserError
from torch_utils.ops.backend import using
from training.trainer import Trainer

# The operators and the graphs of a variant: the values of --ops and --cuda-graph.
VARIANTS = {"eager": ("ref", "off"), "ours": ("auto", "off"), "graph": ("auto", "on")}


def step(name: str, batch: int, device: str, precision: str, variant: str) -> Callable[[], None]:
    """A function that runs one step of a recipe at its full resolution.

    Its first call runs so many steps that every graph is captured.
    """
    ops, cuda_graph = VARIANTS[variant]
    changes: dict[str, Any] = {"precision": precision, "cuda_graph": cuda_graph}
    base = replace(recipe(name), batch=batch, start_resolution=0, start_kimg=0.0, **changes)
    encoder = EncodedTexts(base.text_encoder, batch)
    config = base.for_encoder(encoder.sentence_dim, encoder.word_dim)
    trainer = Trainer(config, encoder, torch.device(device))
    side = config.judged_side
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    boxes = None
    if config.patches.side:
        shown = [config.patches.draw((4 * side, 4 * side), 0, i) for i in range(batch)]
        boxes = torch.tensor(shown, dtype=torch.float64)
    captions = [f"picture number {i} of noise" for i in range(batch)]

    loss = config.loss
    period = math.lcm(
        loss.r1_interval if loss.r1_gamma else 1,
        loss.path_length_interval if loss.path_length else 1,
    )
    # The third step of a kind captures it (training/step_graph.py).
    captures = 1 if trainer.graphs is None else 3 * period

    def run() -> None:
        nonlocal captures
        try:
            with using(ops):
                for _ in range(captures):
                    trainer.step(images, captions, boxes)
        except UserError as error:  # a failed capture, which becomes a row of the table
            raise RuntimeError(str(error)) from error
        captures = 1

    return run


@click.command()
@click.option("--recipes", default="eidgan-flowers64", show_default=True, metavar="A,B")
@click.option("--batches", default="16,64,256", show_default=True, metavar="N,N")
@click.option("--dtypes", default="fp32", show_default=True, metavar="A,B", help="fp32, bf16.")
@click.option(
    "--variants",
    default="eager,ours,graph" if torch.cuda.is_available() else "eager,ours",
    show_default=True,
    metavar="A,B",
    help="eager, ours, graph.",
)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu")
@timing_options(seconds=5.0)
def main(
    recipes: str,
    batches: str,
    dtypes: str,
    variants: str,
    device: str,
    rounds: int,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Time the training step of recipes at several batch sizes."""
    arguments = dict(locals())
    chosen = variants.split(",")
    unknown = sorted(set(chosen) - set(VARIANTS))
    if unknown:
        raise UserError(f"--variants {unknown[0]}: expected some of {', '.join(VARIANTS)}")
    bench = Bench("recipe_step", arguments)
    for name in recipes.split(","):
        for precision in dtypes.split(","):
            for batch in numbers(batches):
                bench.case(
                    {"recipe": name, "batch": batch},
                    {one: step(name, batch, device, precision, one) for one in chosen},
                    images=batch,
                    dtype=precision,
                )


if __name__ == "__main__":
    main()
