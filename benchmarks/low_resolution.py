"""Times small views of a large network: `python -m benchmarks.low_resolution --json FILE`.

A generator of coordinates draws its frame at any size, so a preview need not be drawn large and
then shrunk (Skorokhodov et al. 2021, INR-GAN: accelerated inference at low resolution). Variants
are the sides in pixels, largest first. They run in turn in one process, and `speedup` is the time
of the first side over that of the row. Timed is what generate.py runs: mapping and `render_tiled`,
without the text encoder.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from benchmarks.generator import drawing, text_for
from benchmarks.harness import Bench, numbers, timing_options
from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators import preset


@click.command()
@click.option("--generator", "names", default="eidgan,crepsclip,inrganclip,cipsclip", metavar="A,B")
@click.option("--resolutions", default="256,128,64,32", show_default=True, metavar="R,R")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1))
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu")
@timing_options(seconds=20.0)
def main(
    names: str,
    resolutions: str,
    batch: int,
    device: str,
    rounds: int,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Time one network at several sizes of the same frame."""
    arguments = dict(locals()) | {"dtypes": "fp32", "variants": "all"}
    sides = sorted(numbers(resolutions), reverse=True)
    if len(sides) < 2 or sides[-1] < 1:
        raise UserError(f"--resolutions {resolutions}: give two sides in pixels or more")
    if device == "cpu":
        torch.set_num_threads(1)
    bench = Bench("low_resolution", arguments)
    for name in names.split(","):
        torch.manual_seed(0)
        generator = preset(name).build().to(device).eval()
        z = torch.randn(batch, *generator.latent_shape, device=device)
        inputs = (z, text_for(generator.config, batch, device))
        bench.case(
            {"generator": name, "batch": batch},
            {str(side): drawing(generator, inputs, View.square(side)) for side in sides},
            images=batch,
        )


if __name__ == "__main__":
    main()
