"""Measure how long a checkpoint stops the training loop.

    python -m benchmarks.checkpoints --json FILE

In each round, one trainer takes `--steps` steps without a checkpoint, writes a checkpoint while the
loop waits (`CheckpointIO.save`), and takes the same steps while a thread writes one
(`CheckpointIO.start_save`). `pause_s` is the time in which no step runs. `during_s` is the time of
the steps that began before the thread had ended, and `lost_s` is that time less the time of as many
steps without a checkpoint: what the loop loses to the thread beyond the pause. Pictures and texts
are random. The folder of the checkpoints decides the result: name one on the disk that runs use.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import torch

from benchmarks.harness import RECORD, machine
from configs import recipe
from datasets.patches import FRAME
from dnnlib.console import report_user_errors
from dnnlib.files import make_folder, write_json
from dnnlib.ownership import refuse_foreign
from networks.text_encoders import load_encoder
from torch_utils.distributed import resolve_device
from training.checkpoint import CheckpointIO
from training.trainer import Trainer


def make_step(name: str, batch: int, device: torch.device) -> tuple[Trainer, Callable[[], None]]:
    """A trainer of a recipe, and its step on random pictures, which waits for the device."""
    config = replace(recipe(name), batch=batch).resolved()
    encoder = load_encoder(config.text_encoder, device) if config.needs_encoder else None
    trainer = Trainer(config, encoder, device)
    generator = torch.Generator().manual_seed(0)
    size = (batch, 3, config.judged_side, config.judged_side)
    images = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    boxes = torch.tensor([FRAME] * batch, dtype=torch.float64) if config.patches.side else None

    def step() -> None:
        trainer.step(images, ["a red circle on a white ground"] * batch, boxes)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return trainer, step


def seconds_of(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure(io: CheckpointIO, trainer: Trainer, step: Callable[[], None], steps: int) -> dict:
    """The times of one round, in seconds."""
    plain = statistics.median(seconds_of(step) for _ in range(steps))
    waited = seconds_of(lambda: io.save(trainer.progress.images))
    pause = seconds_of(lambda: io.start_save(trainer.progress.images))
    during = []
    while io.writing:
        during.append(seconds_of(step))
    rest = seconds_of(io.finish)
    return {
        "step_s": plain,
        "pause_s": {"the loop writes": waited, "a thread writes": pause},
        "during_s": sum(during),
        "lost_s": sum(during) - len(during) * plain,
        "steps_during": len(during),
        "finish_s": rest,
    }


@click.command()
@click.option("--recipe", "name", default="eidgan-openmoji64", show_default=True)
@click.option("--batch", default=8, show_default=True, help="Images of a step.")
@click.option("--device", default="auto", show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--steps", default=5, show_default=True, help="Steps without a checkpoint, a round.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Where checkpoints are written, and deleted afterwards.  [default: the temporary folder]",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@report_user_errors
def main(
    name: str,
    batch: int,
    device: str,
    rounds: int,
    steps: int,
    folder: Path | None,
    json_path: Path | None,
) -> None:
    """Measure how long a checkpoint stops the training loop."""
    if json_path is not None:
        refuse_foreign(json_path, RECORD)
    trainer, step = make_step(name, batch, resolve_device(device))
    step()
    if folder is not None:
        make_folder(folder)
    rows = []
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        CheckpointIO(Path(place), trainer.objects) as io,
    ):
        size = io.save(0).stat().st_size / 2**20
        print(f"{name}: a checkpoint of {size:.1f} MiB")
        for _ in range(rounds):
            rows.append(measure(io, trainer, step, steps))
            print(rows[-1])
    middle = {
        "step_s": statistics.median(row["step_s"] for row in rows),
        "pause_s": {
            way: statistics.median(row["pause_s"][way] for row in rows)
            for way in rows[0]["pause_s"]
        },
        "lost_s": statistics.median(row["lost_s"] for row in rows),
    }
    print(middle)
    if json_path is not None:
        record = {
            "benchmark": "checkpoints",
            "recipe": name,
            "batch": batch,
            "mib": size,
            "machine": machine(resolve_device(device)),
            "rows": rows,
            "median": middle,
        }
        write_json(json_path, record, ours=RECORD)


if __name__ == "__main__":
    main()
