"""Compare all systems: parameters, multiply-adds, time and memory of a forward and a training step.

    python -m benchmarks.systems --json benchmarks/results/NAME.json

Timings are interleaved, round by round, in one process, so that load by other processes affects all
systems alike. A time is the median over the rounds. A forward is that of generate.py: from text
features to pictures, float32, in the device's tiles. Memory is what a forward adds at its peak; on
a CPU it is measured in a separate process. A training step is `Trainer.step` of the 64 x 64 recipe
with texts that are encoded before.
"""

from __future__ import annotations

import datetime
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import torch

from benchmarks.harness import machine, memory_mib, reset_peak_memory
from configs import recipe
from dnnlib.console import report_user_errors
from dnnlib.files import write_json
from dnnlib.ownership import json_with, refuse_foreign
from networks.coordinates import View
from networks.describe import describe
from networks.generators import preset
from networks.interfaces import TextFeatures, ViewError
from networks.sampling import render_tiled
from networks.text_encoders import encoder_widths
from training.trainer import Trainer

SYSTEMS = ("eidgan", "crepsclip", "inrganclip", "cipsclip", "stylegan2clip", "vqcgan")


def forward(
    name: str, resolution: int, batch: int, device: torch.device
) -> Callable[[], torch.Tensor]:
    """A function that generates `batch` pictures."""
    torch.manual_seed(0)
    config = preset(name)
    generator = config.build().eval().requires_grad_(False).to(device)
    z = torch.randn(batch, *generator.latent_shape, device=device)
    text = TextFeatures(
        torch.randn(batch, config.sentence_dim),
        torch.randn(batch, 77, config.word_dim),
        torch.ones(batch, 77, dtype=torch.bool),
    ).to(device)

    def draw() -> torch.Tensor:
        with torch.no_grad():
            return render_tiled(generator, generator.mapping(z, text), View.square(resolution))

    return draw


class EncodedTexts:
    """A text encoder with the widths of the encoder `spec` that returns constant features."""

    id = "encoded"

    def __init__(self, spec: str, batch: int) -> None:
        self.sentence_dim, self.word_dim = encoder_widths(spec)
        self.features = TextFeatures(
            torch.randn(batch, self.sentence_dim),
            torch.randn(batch, 16, self.word_dim),
            torch.ones(batch, 16, dtype=torch.bool),
        )

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        return self.features[: len(captions)]


def training_step(name: str, batch: int, device: torch.device) -> Callable[[], None]:
    """A function that runs one training step of the 64 x 64 recipe on noise."""
    config = replace(recipe(f"{name}-openmoji64"), batch=batch, device=str(device))
    encoder = EncodedTexts(config.text_encoder, batch)
    trainer = Trainer(config.for_encoder(encoder.sentence_dim, encoder.word_dim), encoder, device)
    images = torch.randint(0, 256, (batch, 3, 64, 64), dtype=torch.uint8)
    captions = [f"picture number {i} of noise" for i in range(batch)]
    return lambda: trainer.step(images, captions)


def seconds(call: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """(elapsed seconds, processor seconds of this process) of one call.

    Other processes hardly change the processor seconds.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
    began, began_cpu = time.perf_counter(), time.process_time()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - began_cpu


def interleaved(
    calls: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Time the calls in turn, after one untimed call of each.

    Returns the median, least and greatest elapsed seconds and the median processor seconds by name.
    """
    for call in calls.values():
        call()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    result = {}
    for name, pairs in times.items():
        elapsed, processor = zip(*pairs, strict=True)
        result[name] = {
            "median_s": statistics.median(elapsed),
            "min_s": min(elapsed),
            "max_s": max(elapsed),
            "cpu_s": statistics.median(processor),
        }
    return result


def peak_bytes(name: str, resolution: int, batch: int, device: torch.device) -> int:
    """The most bytes that one forward adds to the memory of a process with the network."""
    if device.type == "cuda":
        draw = forward(name, resolution, batch, device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        draw()
        return torch.cuda.max_memory_allocated(device) - before
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.systems",
            "--memory-of",
            name,
            "--resolutions",
            str(resolution),
            "--batch",
            str(batch),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def peak_of_process(name: str, resolution: int, batch: int) -> int:
    """The most bytes that one forward on the CPU adds to the memory of this process (Linux).

    Resets the kernel's high-water mark of the resident set before the forward.
    """
    draw = forward(name, resolution, batch, torch.device("cpu"))
    reset_peak_memory()
    before = memory_mib("VmRSS")
    draw()
    return int((memory_mib("VmHWM") - before) * 2**20)


def measure(
    systems: list[str],
    resolutions: list[int],
    batch: int,
    rounds: int,
    limit_gmac: float,
    train_batch: int,
    device: torch.device,
) -> Iterator[dict]:
    """Yield the result so far, after the training steps and after every resolution.

    Forwards of more than `limit_gmac` billions of multiply-adds are not run. train_batch: 0 leaves
    the training steps out.
    """
    records: list[dict] = []
    steps: list[dict] = []
    facts = machine(device)
    result = {
        "date": datetime.date.today().isoformat(),
        "hardware": f"{facts['device']}, {facts['threads']} threads",
        "torch": facts["torch"],
        "rounds": rounds,
        "batch": batch,
        "forwards": records,
        "training_steps": steps,
    }
    if train_batch:
        timed = interleaved(
            {name: training_step(name, train_batch, device) for name in systems}, rounds, device
        )
        steps += [
            {"system": name, "recipe": f"{name}-openmoji64", "batch": train_batch} | times
            for name, times in timed.items()
        ]
        yield result
    for resolution in resolutions:
        rows = {}
        for name in systems:
            row = {"system": name, "resolution": resolution}
            try:
                counts = describe(preset(name), View.square(resolution))
                row |= {"params": counts["params"], "macs": counts["macs"]}
                if counts["macs"] > limit_gmac * 1e9:
                    row["note"] = f"more than {limit_gmac:g} GMAC: not run"
                else:
                    rows[name] = row
            except ViewError:
                row["note"] = "one size only"
            records.append(row)
        timed = interleaved(
            {name: forward(name, resolution, batch, device) for name in rows}, rounds, device
        )
        for name, row in rows.items():
            row |= timed[name] | {"peak_bytes": peak_bytes(name, resolution, batch, device)}
            click.echo(line(row), err=True)
        yield result


def line(row: dict) -> str:
    """A row of the table of forwards, in Markdown."""
    counts = f"{row['params'] / 1e6:.1f} M | {row['macs'] / 1e9:.1f}" if "params" in row else "|"
    if "median_s" not in row:
        return f"| {row['system']} | {row['resolution']} | {counts} | {row['note']} | | |"
    peak_mib = row["peak_bytes"] / 2**20
    return f"| {row['system']} | {row['resolution']} | {counts} | {_times(row)} | {peak_mib:.0f} |"


def _times(row: dict) -> str:
    """'median (least to greatest) | processor seconds'."""
    spread = f"({row['min_s']:.3f} to {row['max_s']:.3f})"
    return f"{row['median_s']:.3f} {spread} | {row['cpu_s']:.3f}"


def table(result: dict) -> str:
    """The result as Markdown."""
    lines = [
        f"{result['date']}, {result['hardware']}, torch {result['torch']}, median of "
        f"{result['rounds']} interleaved rounds, {result['batch']} pictures a forward.",
        "",
        "| System | Side | Parameters | GMAC | Forward, s (least to most) | processor s | "
        "Peak memory, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [line(row) for row in result["forwards"]]
    if result["training_steps"]:
        lines += [
            "",
            "| Recipe | Batch | Training step, s (least to most) | processor s |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {row['recipe']} | {row['batch']} | {_times(row)} |"
            for row in result["training_steps"]
        ]
    return "\n".join(lines)


@click.command()
@click.option(
    "--systems", default=",".join(SYSTEMS), show_default=True, help="Presets at 256 x 256."
)
@click.option("--resolutions", default="256,512,1024,2048", show_default=True)
@click.option(
    "--batch",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Pictures in one forward.",
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--limit-gmac",
    default=2000.0,
    show_default=True,
    help="Forwards of more multiply-adds are not run.",
)
@click.option(
    "--train-batch",
    default=8,
    show_default=True,
    help="Pictures in one training step; 0 leaves training out.",
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "path", metavar="FILE", help="Also write the result to this file.")
@click.option("--memory-of", hidden=True)
@report_user_errors
def main(
    systems: str,
    resolutions: str,
    batch: int,
    rounds: int,
    limit_gmac: float,
    train_batch: int,
    device: str,
    path: str | None,
    memory_of: str | None,
) -> None:
    """Measure every system in one interleaved run."""
    sizes = [int(size) for size in resolutions.split(",")]
    if memory_of:
        click.echo(peak_of_process(memory_of, sizes[0], batch))
        return
    record = json_with("forwards", "training_steps")
    if path:
        refuse_foreign(path, record)
    for result in measure(
        systems.split(","), sizes, batch, rounds, limit_gmac, train_batch, torch.device(device)
    ):
        if path:
            write_json(Path(path), result, ours=record)
    click.echo(table(result))


if __name__ == "__main__":
    main()
