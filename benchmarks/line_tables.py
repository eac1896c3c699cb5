"""What a warped view of a bi-line generator loses by reading its lines from a table.

    python -m benchmarks.line_tables --networks runs/flowers64,eidgan --json FILE

A view is drawn with the lines of every pixel evaluated (`--exact`), and with tables of several
spacings. Errors are in steps of 8 bits, of values clipped to [-1, 1]. `cpu_seconds` is processor
time with one thread, for preparing and rendering; `plain_cpu_seconds` is that of the view without a
warp. A preset stands for a network with random weights.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import click
import torch

from benchmarks.generator import text_for
from benchmarks.harness import RECORD, machine, numbers
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign
from networks.coordinates import View
from networks.generators import PRESETS, line_tables, preset
from networks.generators.line_tables import Grid, WarpedLines
from networks.interfaces import Codes, Generator
from networks.sampling import render_tiled
from networks.snapshot import Snapshot
from networks.warps import Warp, Wave
from torch_utils.rng import normal_per_seed

PROMPTS = ["a red apple", "a yellow flower"]
STEP = 2 / 255  # of 8 bits


def network_named(name: str) -> tuple[str, Generator, Codes]:
    """What a row calls the network, the network, and codes of two pictures."""
    torch.manual_seed(0)
    if name in PRESETS:
        generator = preset(name).build().eval()
        title, text = f"{name}, random weights", text_for(generator.config, 2, "cpu")
    else:
        snapshot = Snapshot.from_pretrained(name)
        generator, encoder = snapshot.generator.eval(), snapshot.load_encoder("cpu")
        kimg = snapshot.info.get("kimg")
        title = f"{snapshot.info.get('recipe', generator.config.kind)}, {kimg} kimg"
        text = encoder.encode_text(PROMPTS) if encoder else None
    z = normal_per_seed(range(2), generator.latent_shape)
    return title, generator, generator.mapping(z, text if generator.reads_text else None)


def drawn(generator: Generator, codes: Codes, view: View) -> tuple[torch.Tensor, float]:
    """The pictures, clipped, and the processor time they took."""
    started = time.process_time()
    images = render_tiled(generator, codes, view)
    return images.clamp(-1, 1), round(time.process_time() - started, 2)


def rows_of(name: str, side: int, spacings: list[int]) -> Iterator[dict]:
    """A row of the record for each spacing. Raises `UserError` for a network without lines."""
    title, generator, codes = network_named(name)
    plain = View.square(side)
    view = plain.transformed(rotate=20, warp=Wave())
    prepared = generator.prepare(codes, view)
    if not isinstance(prepared, WarpedLines):
        raise UserError(f"{name}: is not a bi-line network")
    assert view.warp is not None
    _, plain_seconds = drawn(generator, codes, plain)
    identity, _ = drawn(generator, codes, replace(plain, warp=Warp(exact=True)))
    exact, exact_seconds = drawn(
        generator, codes, replace(view, warp=replace(view.warp, exact=True))
    )
    same = drawn(generator, codes, plain)[0] - identity
    for per_cycle in spacings:
        with mock.patch.object(line_tables, "PER_CYCLE", per_cycle):
            grid = Grid.over(view, prepared.lines.cycles)
            if grid is None:
                raise UserError(f"--size {side}: has fewer pixels than the table has samples")
            table, seconds = drawn(generator, codes, view)
        error = (table - exact).abs().flatten() / STEP
        yield {
            "network": title,
            "side": side,
            "per_cycle": per_cycle,
            "per_frame": round(1 / grid.spacing),
            "length": grid.length,
            "rms": error.square().mean().sqrt().item(),
            "q999": torch.quantile(error, 0.999).item(),
            "max": error.max().item(),
            "above_half": (error > 0.5).float().mean().item(),
            "exact_identity_max": same.abs().max().item() / STEP,
            "cpu_seconds": seconds,
            "exact_cpu_seconds": exact_seconds,
            "plain_cpu_seconds": plain_seconds,
        }


@click.command()
@click.option("--networks", required=True, metavar="A,B", help="Snapshots, run folders or presets.")
@click.option("--size", default=128, show_default=True, help="Side of the pictures.")
@click.option("--per-cycle", default="64,128,256,512", show_default=True, metavar="N,N",
              help="Samples of the table per frame and cycle of bandwidth.")  # fmt: skip
@click.option("--json", "path", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the record there.")  # fmt: skip
@report_user_errors
def main(networks: str, size: int, per_cycle: str, path: Path | None) -> None:
    """Measure the error of the tables behind warped views."""
    if path:
        refuse_foreign(path, RECORD)
    torch.set_num_threads(1)
    rows = []
    with torch.no_grad():
        for name in networks.split(","):
            for row in rows_of(name, size, numbers(per_cycle)):
                rows.append(row)
                click.echo(row, err=True)
    if path:
        record = {
            "benchmark": "line tables",
            "date": datetime.date.today().isoformat(),
            "default_per_cycle": line_tables.PER_CYCLE,
            "rows": rows,
            "machine": machine(torch.device("cpu")),
        }
        write_json(path, record, ours=RECORD)


if __name__ == "__main__":
    main()
