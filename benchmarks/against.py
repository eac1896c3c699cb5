"""Compare the speed of two checkouts: `python -m benchmarks.against OTHER --json FILE`, on a CPU.

OTHER is a folder with the commit to compare with (`git worktree add OTHER COMMIT`). For each
checkout, a process imports the sources and builds the networks once. The processes run one call
each in turn, so that changes of the clock rate and load by other processes affect both alike. The
time of a call is its processor time over all threads. The record has the medians over rounds and
the median of the ratios of each round.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

CASES = ("forward", "backward", "G", "D", "D+R1")


def call_of(
    part: str, generator: str, resolution: int, batch: int, dtype: str
) -> Callable[[], object]:
    """A call that runs one case with the sources that this process imports.

    part: 'forward', the forward of a preset; 'backward', its forward and backward without D; a part
        of `benchmarks.training_step`; or 'step', the steps of one R1 interval of
        `training.trainer`, with R1 and other lazy terms at their intervals.
    generator: name of a preset, or of a recipe for 'step'.
    """
    import torch

    from benchmarks.generator import forward, text_for
    from benchmarks.harness import DTYPES
    from benchmarks.training_step import PARTS, Step
    from networks.coordinates import View
    from networks.generators import preset

    if part == "step":
        return training_step(generator, batch)
    if part in PARTS:
        step = Step(generator, resolution, batch, "cpu", DTYPES[dtype], "ours")
        return lambda: PARTS[part](step)
    torch.manual_seed(0)
    config = preset(generator)
    network, view = config.build(), View.square(resolution)
    inputs = torch.randn(batch, *network.latent_shape), text_for(config, batch, "cpu")
    if part == "forward":
        return forward(network.eval().requires_grad_(False), inputs, view, "auto", DTYPES[dtype])

    def backward() -> None:
        network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", DTYPES[dtype], enabled=dtype != "fp32"):
            images = network(*inputs, view)
        images.backward(torch.ones_like(images))

    return backward


def training_step(recipe_name: str, batch: int) -> Callable[[], object]:
    """A call that runs the training steps of one R1 interval, without reading pictures."""
    from dataclasses import replace

    import torch

    from configs import recipe
    from networks.text_encoders import load_encoder
    from training.trainer import Trainer

    encoder = load_encoder("small")
    config = replace(recipe(recipe_name), batch=batch)
    config = config.for_encoder(encoder.sentence_dim, encoder.word_dim)
    captions = [f"a red icon of apple number {i}" for i in range(batch)]
    # Encode the captions once, because training reads their features from a cache.
    text, cached = encoder.encode_text(captions), copy.copy(encoder)
    cached.encode_text = lambda captions: text  # type: ignore
    trainer = Trainer(config, encoder, torch.device("cpu"), cached)
    side = config.resolution
    images = torch.randint(
        256, (batch, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )

    def steps() -> None:
        for _ in range(config.loss.r1_interval):
            trainer.step(images, captions)

    return steps


def work() -> None:
    """The process of one checkout: reads a case a line, runs it, prints its processor seconds."""
    # The folder of this script holds a metrics.py, which would hide the package metrics.
    script_folder = str(Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if path != script_folder]
    calls: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        if line not in calls:
            calls.clear()
            calls[line] = call_of(**json.loads(line))
            calls[line]()
        before = time.process_time()
        calls[line]()
        print(time.process_time() - before, flush=True)


class Side:
    """The process that runs cases with the sources of one folder."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            cwd=folder,
            text=True,
            env=os.environ | {"PYTHONPATH": str(folder.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def seconds(self, case: dict) -> float:
        """The processor seconds of one call of a case."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise click.ClickException(f"a side ended with exit code {self.process.wait()}")
        return float(answer)

    def close(self) -> None:
        self.process.communicate()


@click.command()
@click.argument("other", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--generator", default="eidgan", show_default=True, help="The preset to time.")
@click.option("--parts", default=",".join(CASES), show_default=True, metavar="A,B")
@click.option("--resolution", default=64, show_default=True)
@click.option("--batches", default="4", show_default=True, metavar="N,N")
@click.option("--dtypes", default="fp32,bf16", show_default=True, metavar="A,B")
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Add the rows to this record."
)
def main(**options: Any) -> None:
    """Time a generator and the parts of its training step here and in the checkout OTHER."""
    # Imported here, because `work` imports the sources of another checkout.
    from dnnlib.console import report_user_errors

    report_user_errors(compare)(**options)


def compare(
    other: Path,
    generator: str,
    parts: str,
    resolution: int,
    batches: str,
    dtypes: str,
    rounds: int,
    json_path: Path | None,
) -> None:
    """Time both sides, print a row for each case and add the rows to the record."""
    import torch

    from benchmarks.harness import RECORD, machine
    from configs import recipe
    from dnnlib.files import read_json, write_json
    from dnnlib.ownership import refuse_foreign
    from networks.generators import preset

    if json_path:
        refuse_foreign(json_path, RECORD)
    for part in parts.split(","):  # refuse unknown names before the processes start
        (recipe if part == "step" else preset)(generator)
    sides = [Side(other), Side(Path(__file__).parents[1])]
    rows = []
    for dtype in dtypes.split(","):
        for batch in map(int, batches.split(",")):
            for part in parts.split(","):
                case = {
                    "part": part,
                    "generator": generator,
                    "resolution": resolution,
                    "batch": batch,
                    "dtype": dtype,
                }
                times = [[side.seconds(case) for side in sides] for _ in range(rounds)]
                before, now = (statistics.median(column) for column in zip(*times, strict=True))
                row = case | {
                    "rounds": rounds,
                    "other_cpu_s": before,
                    "cpu_s": now,
                    "ratio": statistics.median(a / b for a, b in times),
                }
                rows.append(row | {"load": os.getloadavg()[0]})
                click.echo(
                    "  ".join(
                        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                        for key, value in row.items()
                    )
                )
    for side in sides:
        side.close()
    if json_path:
        earlier = read_json(json_path)["rows"] if json_path.exists() else []
        facts = {"benchmark": "against", "machine": machine(torch.device("cpu"))}
        write_json(json_path, facts | {"rows": [*earlier, *rows]}, ours=RECORD)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main()
    else:
        work()
