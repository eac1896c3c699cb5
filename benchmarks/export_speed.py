"""Times exported networks against our own path: `python -m benchmarks.export_speed --json FILE`.

Variants: ours (mapping and `render_tiled`, as generate.py runs them), program (a .pt2 file of
torch.export), onnxruntime (an ONNX file). All run on the CPU in one process with one thread, in
turn; `cpu_ms` is the processor time. `deviation` is the largest difference from our pictures over
their root mean square. The text encoder is not part of any of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import torch

from benchmarks.generator import drawing, text_for
from benchmarks.harness import Bench, numbers, timing_options
from networks import export_formats
from networks.coordinates import View
from networks.describe import describe
from networks.exported import ExportedNetwork
from networks.generators import preset

PROMPT_LENGTH = 77  # tokens, as in `text_for`


def exported_files(network: ExportedNetwork, folder: Path) -> dict:
    """The runner of each format, read back from its file."""
    program = export_formats.trace(network, PROMPT_LENGTH)
    paths: dict[export_formats.Format, Path] = {
        "torch-export": folder / "network.pt2",
        "onnx": folder / "network.onnx",
    }
    for format_, path in paths.items():
        export_formats.write(program, network, path, format_, {})
    return {
        "program": export_formats.open_program(paths["torch-export"]),
        "onnxruntime": export_formats.open_onnx(paths["onnx"]),
    }


def variants_of(generator, network, runners: dict, batch: int, view: View) -> dict:
    z = torch.randn(batch, *generator.latent_shape)
    text = text_for(generator.config, batch, "cpu") if generator.reads_text else None
    inputs, ours = network.inputs(z, text, view), drawing(generator, (z, text), view)
    return {"ours": ours} | {name: lambda run=run: run(inputs) for name, run in runners.items()}


@click.command()
@click.option("--generator", "names", default="eidgan-small,eidgan,creps", metavar="A,B")
@click.option("--resolutions", default="64,256", show_default=True, metavar="R,R")
@click.option("--batches", default="1", show_default=True, metavar="N,N")
@timing_options()
def main(
    names: str,
    resolutions: str,
    batches: str,
    rounds: int,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Time exported networks on the CPU."""
    arguments = dict(locals()) | {"device": "cpu", "dtypes": "fp32", "variants": "all"}
    torch.set_num_threads(1)
    bench = Bench("export_speed", arguments)
    for name in names.split(","):
        torch.manual_seed(0)
        generator = preset(name).build().eval().requires_grad_(False)
        network = ExportedNetwork(generator)
        with tempfile.TemporaryDirectory() as folder:
            runners = exported_files(network, Path(folder))
        for resolution in numbers(resolutions):
            view = View.square(resolution)
            macs = describe(generator.config, view)["macs"]
            for batch in numbers(batches):
                bench.case(
                    {"generator": name, "resolution": resolution, "batch": batch},
                    variants_of(generator, network, runners, batch, view),
                    images=batch,
                    flops=2.0 * macs * batch,
                    compare=True,
                )


if __name__ == "__main__":
    main()
