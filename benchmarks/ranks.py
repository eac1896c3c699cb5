"""Compare ways to use a CPU's cores in training.

    python -m benchmarks.ranks --data ARCHIVE --json FILE

The ways are one thread, two threads, and two ranks of one thread each. Each trains
`eidgan-openmoji32` while 0, 1 or 2 other processes keep a core busy. All ways stay in memory and
run in turn for `--seconds` each, so that changes of the machine affect all of them. The script
prints images/s and the targets. Run it on an idle machine.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import click
import torch

from benchmarks.harness import RECORD, machine
from configs import recipe
from datasets.loader import training_batches
from datasets.text_image import TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign
from networks.text_encoders import load_encoder
from networks.text_encoders.cache import CachedTextEncoder
from torch_utils.distributed import from_main, is_main, process_group, rank, world_size
from torch_utils.local_ranks import local_ranks
from training.trainer import Trainer

WAYS = {"one thread": (1, 1), "two threads": (1, 2), "two ranks": (2, 1)}  # ranks, threads a rank
# The target for two ranks as a multiple of the rate of one thread on the idle machine, by (number
# of busy processes, batch).
TARGETS = {(0, 8): 1.2, (0, 32): 1.6, (1, 8): 0.9, (1, 32): 0.9, (2, 8): 0.45, (2, 32): 0.45}


def train(ranks: int, threads: int, data: str, cache: str, batch: int, pipe: Connection) -> None:
    """The process of rank 0 of one way: trains for the seconds in the pipe and sends images/s."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    work = Work(data, cache, batch)
    with local_ranks(ranks, work):
        work(pipe)


class Work:
    """The work of each rank; only rank 0 has a pipe."""

    def __init__(self, data: str, cache: str, batch: int) -> None:
        self.data, self.cache, self.batch = data, cache, batch

    def __call__(self, pipe: Connection | None = None) -> None:
        device = torch.device("cpu")
        with process_group(device):
            dataset, encoder = TextImageDataset(self.data, split="train"), load_encoder("small")
            config = replace(recipe("eidgan-openmoji32"), batch=self.batch)
            config = config.for_encoder(encoder.sentence_dim, encoder.word_dim)
            captions = [text for i in range(len(dataset)) for text in dataset.captions(i)]
            text = CachedTextEncoder.build(encoder, captions, self.cache)
            trainer = Trainer(config, encoder, device, text)
            batches = training_batches(
                dataset, global_batch=self.batch, seed=0, rank=rank(), world_size=world_size()
            )
            while seconds := from_main(pipe.recv() if pipe else None):
                images, started = 0, time.monotonic()
                while from_main(time.monotonic() - started < seconds):
                    batch = next(batches)
                    trainer.step(batch.images, batch.captions)
                    images += self.batch
                if is_main() and pipe:
                    pipe.send(images / (time.monotonic() - started))


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """A context with `count` other processes, each of which keeps a core busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@click.command()
@click.option("--data", required=True, metavar="ARCHIVE", help="32 x 32 pictures with captions.")
@click.option("--batches", default="8,32", show_default=True, metavar="N,N")
@click.option("--seconds", default=3.0, show_default=True, help="Length of a way's turn.")
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the record to this file."
)
@report_user_errors
def main(data: str, batches: str, seconds: float, rounds: int, json_path: Path | None) -> None:
    """Measure images/s of training by threads and by ranks, on an idle and on a busy machine."""
    if json_path:
        refuse_foreign(json_path, RECORD)
    TextImageDataset(data, split="train")  # raises `UserError` for a faulty data set
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for batch in map(int, batches.split(",")):
            rows += of_batch(data, cache, batch, seconds, rounds)
    if json_path:
        write_json(
            json_path,
            {"benchmark": "ranks", "machine": machine(torch.device("cpu")), "rows": rows},
            ours=RECORD,
        )


@contextlib.contextmanager
def loaded(data: str, cache: str, batch: int) -> Iterator[dict[str, Connection]]:
    """A context with the pipes to the processes of all ways, which are ready to train."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    try:
        for way, (ranks, threads) in WAYS.items():
            pipes[way], child_end = context.Pipe()
            processes.append(
                context.Process(target=train, args=(ranks, threads, data, cache, batch, child_end))
            )
            processes[-1].start()
            child_end.close()  # so that the pipe is closed when the process ends
            turn(pipes, way, 0.1)  # wait, because the first process writes the cache
        yield pipes
    finally:
        for pipe in pipes.values():
            with contextlib.suppress(OSError):  # the process may have ended
                pipe.send(0)
            pipe.close()
        for process in processes:
            process.join()


def of_batch(data: str, cache: str, batch: int, seconds: float, rounds: int) -> list[dict]:
    """The rows of one batch size: images/s of each way with 0, 1 and 2 busy processes."""
    rows: list[dict] = []
    with loaded(data, cache, batch) as pipes:
        for others in (0, 1, 2):
            rates: dict[str, list[float]] = {way: [] for way in WAYS}
            with busy(others):
                for _, way in itertools.product(range(rounds), WAYS):
                    rates[way].append(turn(pipes, way, seconds))
            row = {way: statistics.median(rates[way]) for way in WAYS}
            rows.append({"batch": batch, "busy": others} | row)
            target = TARGETS.get((others, batch))
            share = row["two ranks"] / rows[0]["one thread"]
            shown = ", ".join(f"{way} {rate:.1f}" for way, rate in row.items())
            click.echo(
                f"batch {batch}, {others} busy: {shown} images/s; two ranks are "
                f"{share:.2f} x one idle thread (target {target})"
            )
    return rows


def turn(pipes: dict[str, Connection], way: str, seconds: float) -> float:
    """Let a way train for some seconds; returns images/s."""
    try:
        pipes[way].send(seconds)
        return pipes[way].recv()
    except (EOFError, OSError):
        raise click.ClickException(f"{way}: its process failed with the error above") from None


if __name__ == "__main__":
    main()
