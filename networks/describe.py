"""The cost of a generator: parameters, multiply-adds (MACs) and activation memory of a view.

`python -m networks.describe --generator eidgan --resolution 256 [--json]`. The costs are counted:
the network runs once on torch's meta device, whose tensors have shapes but no values. MACs are
those of matrix products and convolutions; element-wise operations and FFTs are not counted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from dnnlib.console import report_user_errors
from dnnlib.version import VERSION

if TYPE_CHECKING:
    import torch

    from networks.coordinates import View
    from networks.generators import GeneratorConfig


def describe(config: GeneratorConfig, view: View) -> dict[str, int]:
    """The costs of one picture of `view`.

    params: number of parameters.
    macs_lines: MACs of `mapping` and `prepare`, which are not done for each pixel.
    macs_pixels: MACs of `render`.
    macs: the sum of both.
    activation_bytes: bytes of the float32 tensors that a training forward keeps for its backward,
        without parameters.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from networks.interfaces import Generator, TextFeatures

    with torch.device("meta"):
        generator: Generator = config.build()
        z = torch.empty(1, *generator.latent_shape)
        text = TextFeatures(
            torch.empty(1, config.sentence_dim),
            torch.empty(1, 77, config.word_dim),
            torch.ones(1, 77, dtype=torch.bool),
        )
    parameters = {p.untyped_storage()._cdata for p in generator.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with FlopCounterMode(display=False) as lines:
            prepared = generator.prepare(generator.mapping(z, text), view)
        with FlopCounterMode(display=False) as pixels:
            image = generator.render(prepared, slice(0, view.height), slice(0, view.width))
    assert image.shape == (1, 3, view.height, view.width)
    macs_lines, macs_pixels = lines.get_total_flops() // 2, pixels.get_total_flops() // 2
    return {
        "params": sum(p.numel() for p in generator.parameters()),
        "macs": macs_lines + macs_pixels,
        "macs_lines": macs_lines,
        "macs_pixels": macs_pixels,
        "activation_bytes": sum(saved.values()),
    }


@click.command()
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--generator",
    "name",
    default="eidgan",
    show_default=True,
    help="Preset; see networks/generators.",
)
@click.option(
    "--resolution",
    default="256",
    show_default=True,
    metavar="WxH",
    help="Size of the view in pixels.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@report_user_errors
def main(name: str, resolution: str, as_json: bool) -> None:
    """Print parameters, MACs and activation memory of a generator at a resolution."""
    from networks.coordinates import View, parse_size
    from networks.generators import preset

    width, height = parse_size(resolution)
    counts = describe(preset(name), View(height=height, width=width))
    record = {"generator": name, "width": width, "height": height} | counts
    if as_json:
        click.echo(json.dumps(record))
        return
    click.echo(f"{name} at {width} x {height}, one picture")
    click.echo(f"  parameters         {counts['params'] / 1e6:10.2f} M")
    for key, label in (
        ("macs", "multiply-adds"),
        ("macs_lines", "  on lines"),
        ("macs_pixels", "  on pixels"),
    ):
        click.echo(f"  {label:18} {counts[key] / 1e9:10.2f} G")
    click.echo(
        f"  activation memory  {counts['activation_bytes'] / 2**20:10.1f} MiB (training, float32)"
    )


if __name__ == "__main__":
    main()
