"""Compare the estimate of `train.py --estimate-memory` with the memory of real steps on the CPU.

    python -m benchmarks.memory --json FILE

For each recipe, a process builds the trainer and takes two steps with all lazy terms of the losses.
`allocated_mib` is the most that PyTorch's allocator has given out at a time, by its profiler:
weights, states and activations, and what operators take and free within themselves. `resident_mib`
is the growth of the process's resident memory, which libraries such as oneDNN share. Encoders of
open_clip have random weights, so nothing is downloaded.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import RECORD, machine, memory_mib, reset_peak_memory
from configs import recipe
from dnnlib.console import report_user_errors
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign
from networks.text_encoders import load_encoder
from training.config import TrainConfig
from training.memory_estimate import MIB, blank_batch, estimate
from training.trainer import Trainer


def allocated_peak(call: Callable[[], object]) -> int:
    """The most bytes beyond those of now that PyTorch's allocator for CPUs gives out in a call."""
    with profile(profile_memory=True, activities=[ProfilerActivity.CPU]) as profiler:
        call()
    events = [
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    events.sort(key=lambda event: event[0])
    return max(itertools.accumulate(size for _, size in events))


def real_steps(config: TrainConfig) -> None:
    """Build a trainer on the CPU and take two steps with all lazy terms of the losses."""
    config = config.resolved()
    encoder = load_encoder(config.text_encoder, weights=False) if config.needs_encoder else None
    trainer = Trainer(config, encoder, torch.device("cpu"))
    images, boxes = blank_batch(config, config.batch)
    for _ in range(2):
        trainer.progress.images = 0
        trainer.step(images, ["a red circle on a white ground"] * config.batch, boxes)


def measure(name: str, batch: int, batch_gpu: int | None) -> dict:
    """One row: the estimate for a recipe, and what a real run took."""
    config = replace(recipe(name), batch=batch, batch_gpu=batch_gpu, precision="fp32")
    if config.augment.mode == "ada":  # p starts at 0, where a CPU leaves the augmentation out
        config = replace(config, augment=replace(config.augment, p=0.5))
    guess = estimate(config)
    reset_peak_memory()
    before = memory_mib("VmRSS")
    allocated = allocated_peak(lambda: real_steps(config)) / MIB
    resident = memory_mib("VmHWM") - before
    return {
        "recipe": name,
        "batch": batch,
        "batch_gpu": guess.micro_size,
        "estimate_mib": guess.total / MIB,
        "allocated_mib": allocated,
        "resident_mib": resident,
        "error": guess.total / MIB / allocated - 1,
        "lines": guess.lines(),
    }


@click.command()
@click.option(
    "--cases",
    default="debug:8,eidgan-openmoji64:8,eidgan-coco256:2",
    show_default=True,
    metavar="RECIPE:BATCH[:BATCH_GPU],...",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@report_user_errors
def main(cases: str, json_path: Path | None) -> None:
    """Compare estimates of memory with real steps."""
    if json_path is not None:
        refuse_foreign(json_path, RECORD)
    rows = []
    for case in cases.split(","):
        name, batch, *rest = case.split(":")
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # so memory starts anew
            rows.append(pool.apply(measure, (name, int(batch), int(rest[0]) if rest else None)))
        print(json.dumps({key: value for key, value in rows[-1].items() if key != "lines"}))
    if json_path is not None:
        record = {"benchmark": "memory", "machine": machine(torch.device("cpu")), "rows": rows}
        write_json(json_path, record, ours=RECORD)


if __name__ == "__main__":
    main()
