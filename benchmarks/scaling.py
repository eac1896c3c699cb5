"""How training scales: ranks on the cores of this machine, and a model of many GPUs.

    python -m benchmarks.scaling cpu --data ARCHIVE --json FILE
    python -m benchmarks.scaling model --json FILE

`cpu` compares one thread, two threads, two ranks of one thread each, and two ranks that sum their
gradients in buckets while backward goes on. Each way trains `eidgan-openmoji32` while 0, 1 or 2
other processes keep a core busy. All ways stay in memory and run in turn for `--seconds` each, so
that changes of the machine affect all of them. The script prints images/s, the share of the time
that the sums of gradients take, and the targets. Run it on an idle machine.

`model` computes the table of docs/cluster.md: the time of the sums of gradients over 8 to 512 GPUs,
from the bytes of a step, the rates of the links, and the time of a step on one GPU, which a record
of `benchmarks.training_step` holds.
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
from typing import Any

import click
import torch
import torch.distributed as dist

from benchmarks.harness import RECORD, machine, numbers
from configs import recipe
from datasets.loader import training_batches
from datasets.text_image import TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import read_json, write_json
from dnnlib.number_options import FiniteFloat
from dnnlib.ownership import refuse_foreign
from networks.text_encoders import load_encoder
from networks.text_encoders.cache import CachedTextEncoder
from torch_utils.distributed import (
    from_main,
    is_main,
    process_group,
    rank,
    sum_gradients,
    sum_of_numbers,
    world_size,
)
from torch_utils.local_ranks import local_ranks
from training import optimize
from training.trainer import Trainer

RESULTS = Path(__file__).with_name("results")
STEP_RECORD = "2026-11-26-nvidia-h100-80gb-hbm3-training"
# Of each way: ranks, threads of a rank, and whether gradients are summed during backward.
WAYS = {
    "one thread": (1, 1, False),
    "two threads": (1, 2, False),
    "two ranks": (2, 1, False),
    "two ranks, overlapped": (2, 1, True),
}
BUCKET_BYTES = 1 << 20  # G has 2.3 MB of gradients, so DDP's 25 MB would be one bucket
# The target for two ranks as a multiple of the rate of one thread on the idle machine, by (number
# of busy processes, batch).
# The discriminator compares groups of 8, so the smallest batch of two ranks is 16.
TARGETS = {(0, 16): 1.2, (0, 64): 1.6, (1, 16): 0.9, (1, 64): 0.9, (2, 16): 0.45, (2, 64): 0.45}


class Buckets:
    """Sums the gradients of a network over ranks in buckets, each when its gradients are complete.

    This is a prototype for the comparison. Each rank must take a step in one forward pass.
    """

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self.buckets: list[list[torch.nn.Parameter]] = [[]]
        for parameter in reversed(parameters):  # about the order in which gradients come
            if sum(p.nbytes for p in self.buckets[-1]) >= BUCKET_BYTES:
                self.buckets.append([])
            self.buckets[-1].append(parameter)
            parameter.register_post_accumulate_grad_hook(self._arrived)
        self._begin()

    def _begin(self) -> None:
        self.missing = [set(map(id, bucket)) for bucket in self.buckets]
        self.sums: list[tuple[torch.Tensor, Any]] = []

    def _arrived(self, parameter: torch.Tensor) -> None:
        for missing in self.missing:
            missing.discard(id(parameter))
        # In the order of the buckets, which is the same on all ranks.
        while len(self.sums) < len(self.buckets) and not self.missing[len(self.sums)]:
            self._launch()

    def _launch(self) -> None:
        bucket = self.buckets[len(self.sums)]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([grad.flatten() for grad in grads])
        self.sums.append((flat, dist.all_reduce(flat, async_op=True)))

    def finish(self) -> None:
        """Wait for all sums and put them in the place of the gradients."""
        while len(self.sums) < len(self.buckets):  # buckets with parameters without a gradient
            self._launch()
        for bucket, (flat, work) in zip(self.buckets, self.sums, strict=True):
            work.wait()
            pieces = flat.split([p.numel() for p in bucket])
            for parameter, piece in zip(bucket, pieces, strict=True):
                if parameter.grad is not None:
                    parameter.grad.copy_(piece.view_as(parameter.grad))
        sum_of_numbers([1])  # `sum_gradients` asks the other ranks which gradients there are
        self._begin()


class TimedSums:
    """Takes the place of `sum_gradients` in the steps of a trainer. seconds: its time so far."""

    def __init__(self, trainer: Trainer, overlap: bool) -> None:
        players = (trainer.player_g, trainer.player_d)
        self.buckets = {id(p.parameters): Buckets(p.parameters) for p in players if overlap}
        self.seconds = 0.0
        optimize.sum_gradients = self  # type: ignore[assignment]

    def __call__(self, parameters: list[torch.nn.Parameter]) -> None:
        started = time.monotonic()
        if self.buckets:
            self.buckets[id(parameters)].finish()
        else:
            sum_gradients(parameters)
        self.seconds += time.monotonic() - started


def train(
    ranks: int, threads: int, overlap: bool, data: str, cache: str, batch: int, pipe: Connection
) -> None:
    """The process of rank 0 of one way: trains for the seconds in the pipe, sends its figures."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    work = Work(data, cache, batch, overlap)
    with local_ranks(ranks, work):
        work(pipe)


class Work:
    """The work of each rank; only rank 0 has a pipe."""

    def __init__(self, data: str, cache: str, batch: int, overlap: bool) -> None:
        self.data, self.cache, self.batch, self.overlap = data, cache, batch, overlap

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
            sums = TimedSums(trainer, self.overlap)
            while seconds := from_main(pipe.recv() if pipe else None):
                images, started, sums.seconds = 0, time.monotonic(), 0.0
                while from_main(time.monotonic() - started < seconds):
                    batch = next(batches)
                    trainer.step(batch.images, batch.captions)
                    images += self.batch
                if is_main() and pipe:
                    passed = time.monotonic() - started
                    pipe.send((images / passed, sums.seconds / passed))


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


@click.group()
def main() -> None:
    """Measure and model how training scales."""


@main.command()
@click.option("--data", required=True, metavar="ARCHIVE", help="32 x 32 pictures with captions.")
@click.option("--batches", default="16,64", show_default=True, metavar="N,N")
@click.option("--busy", default="0,1,2", show_default=True, help="Other processes, in turn.")
@click.option("--seconds", default=3.0, show_default=True, help="Length of a way's turn.")
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the record to this file."
)
@report_user_errors
def cpu(
    data: str, batches: str, busy: str, seconds: float, rounds: int, json_path: Path | None
) -> None:
    """Measure images/s of training by threads and by ranks, on an idle and on a busy machine."""
    if json_path:
        refuse_foreign(json_path, RECORD)
    TextImageDataset(data, split="train")  # raises `UserError` for a faulty data set
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for batch in map(int, batches.split(",")):
            rows += of_batch(data, cache, batch, numbers(busy), seconds, rounds)
    if json_path:
        write_json(
            json_path,
            {"benchmark": "scaling", "machine": machine(torch.device("cpu")), "rows": rows},
            ours=RECORD,
        )


@contextlib.contextmanager
def loaded(data: str, cache: str, batch: int) -> Iterator[dict[str, Connection]]:
    """A context with the pipes to the processes of all ways, which are ready to train."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    try:
        for way, (ranks, threads, overlap) in WAYS.items():
            pipes[way], child_end = context.Pipe()
            arguments = (ranks, threads, overlap, data, cache, batch, child_end)
            processes.append(context.Process(target=train, args=arguments))
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


def of_batch(
    data: str, cache: str, batch: int, others_in_turn: list[int], seconds: float, rounds: int
) -> list[dict]:
    """The rows of one batch size: images/s of each way while other processes are busy."""
    rows: list[dict] = []
    with loaded(data, cache, batch) as pipes:
        for others in others_in_turn:
            turns: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
            with busy(others):
                for _, way in itertools.product(range(rounds), WAYS):
                    turns[way].append(turn(pipes, way, seconds))
            row, shares = (
                {way: statistics.median(pair[part] for pair in turns[way]) for way in WAYS}
                for part in (0, 1)
            )
            target = TARGETS.get((others, batch))
            about = {"batch": batch, "busy": others, "target": target, "share_of_sums": shares}
            rows.append(about | row)
            share = row["two ranks"] / rows[0]["one thread"]  # the first turn has none busy
            shown = ", ".join(f"{way} {rate:.1f}" for way, rate in row.items())
            click.echo(
                f"batch {batch}, {others} busy: {shown} images/s; two ranks are "
                f"{share:.2f} x one idle thread (target {target}), efficiency {share / 2:.2f}; "
                f"sums of gradients take {shares['two ranks']:.3f} of their time"
            )
    return rows


def turn(pipes: dict[str, Connection], way: str, seconds: float) -> tuple[float, float]:
    """Let a way train for some seconds -> images/s, and the share of the sums of gradients."""
    try:
        pipes[way].send(seconds)
        return pipes[way].recv()
    except (EOFError, OSError):
        raise click.ClickException(f"{way}: its process failed with the error above") from None


@main.command()
@click.option("--recipe", "name", default="eidgan-coco256", show_default=True)
@click.option("--record", default=STEP_RECORD, show_default=True, metavar="NAME",
              help="Of benchmarks.training_step, in benchmarks/results.")  # fmt: skip
@click.option(
    "--step-s",
    type=FiniteFloat(min=0, min_open=True),
    help="Seconds of a step without sums, in place of --record.",
)
@click.option("--gpus", default="8,16,64,128,512", show_default=True, metavar="N,N")
@click.option("--node-gpus", default=8, show_default=True, help="GPUs of a node.")
@click.option("--node-rate", default=150.0, show_default=True, help="GB/s of a GPU in its node.")
@click.option("--fast-rate", default=40.0, show_default=True, help="GB/s of a GPU between nodes.")
@click.option("--slow-rate", default=10.0, show_default=True, help="GB/s of a node of one adapter.")
@click.option("--latency-us", default=5.0, show_default=True, help="Of one message of NCCL.")
@click.option("--host-latency-us", default=50.0, show_default=True, help="Of one of gloo.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the record there.")
@report_user_errors
def model(
    name: str, record: str, step_s: float | None, gpus: str, path: Path | None, **link: Any
) -> None:
    """Print how long the sums of gradients take over many GPUs, if nothing overlaps them.

    A ring of N ranks sends 2 (N - 1) / N of the bytes, in 2 (N - 1) messages for each of the two
    networks. Efficiency is step / (step + sums).
    """
    if path:
        refuse_foreign(path, RECORD)
    config = recipe(name).resolved()
    with torch.device("meta"):
        networks = config.build_generator(), config.discriminator.build()
    size = sum(p.nbytes for network in networks for p in network.parameters())
    step = {"seconds": step_s} if step_s is not None else measured_step(record, config.resolution)
    rows = [modelled(count, size, step["seconds"], **link) for count in numbers(gpus)]
    for row in rows:
        click.echo(row)
    if path:
        about = {"recipe": name, "gradient_bytes": size, "step": step, "assumed": link}
        write_json(path, {"benchmark": "scaling_model", **about, "rows": rows}, ours=RECORD)


def measured_step(record: str, resolution: int) -> dict[str, Any]:
    """The step with our kernels at this resolution in a record of benchmarks.training_step."""
    path = RESULTS / f"{record}.json"
    if not path.is_file():
        raise UserError(f"--record {record}: there is no {path.name} in benchmarks/results")
    found = read_json(path)
    wanted = {"part": "step", "variant": "ours", "resolution": resolution}
    rows = [row for row in found.get("rows", []) if wanted.items() <= row.items()]
    if not rows:
        raise UserError(f"--record {record}: holds no step at {resolution} px; give --step-s")
    about = {"record": record, "network": found["arguments"]["name"], "batch": rows[0]["batch"]}
    return about | {"device": found["machine"]["device"], "seconds": rows[0]["ms"] / 1000}


def modelled(
    count: int,
    size: int,
    step_s: float,
    *,
    node_gpus: int,
    node_rate: float,
    fast_rate: float,
    slow_rate: float,
    latency_us: float,
    host_latency_us: float,
) -> dict[str, Any]:
    """The sums of `size` bytes of gradients over `count` GPUs, and the efficiency that is left.

    Rates are in GB/s. gloo_s: what the CPU waits for gloo in a step.
    """
    messages, sent, node = 2 * (count - 1), 2 * (count - 1) / count * size, count <= node_gpus
    row: dict[str, Any] = {"gpus": count, "nodes": -(-count // node_gpus), "sent_bytes": sent}
    for link, rate in (("fast", fast_rate), ("slow", slow_rate)):
        seconds = sent / (node_rate if node else rate) / 1e9 + 2 * messages * latency_us / 1e6
        row |= {f"{link}_s": seconds, f"{link}_efficiency": step_s / (step_s + seconds)}
    return row | {"gloo_s": 3 * messages * host_latency_us / 1e6}


if __name__ == "__main__":
    main()
