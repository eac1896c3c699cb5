"""How many processes a run has, and their start: `train.py` without torchrun uses a CPU's cores."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch

from dnnlib.cores import num_cores
from dnnlib.errors import UserError
from torch_utils.distributed import resolve_device
from torch_utils.local_ranks import THREADS, local_ranks, under_torchrun, use_one_thread
from training.config import TrainConfig
from training.launch import run

# Below so many pictures a step, a process spends its time on what does not depend on their number:
# benchmarks/ranks.py, docs/performance.md.
FEWEST_IMAGES = 4


def start(
    config: TrainConfig, run_dir: Path, *, processes: int | None, metrics_asked: bool = True
) -> bool:
    """`training.launch.run` in that many processes of this machine (None: `chosen_processes`).

    Under torchrun the processes are there already. Raises `UserError`.
    """
    if under_torchrun():
        if processes is not None:
            raise UserError("--ranks: torchrun has started the processes; leave --ranks out")
        use_one_thread()
        return run(config, run_dir, metrics_asked=metrics_asked)
    count = chosen_processes(config) if processes is None else processes
    config.micro_batches(count)
    device = resolve_device(config.device)
    if device.type == "cpu":
        use_one_thread()
    elif device.type == "cuda" and count > torch.cuda.device_count():
        raise UserError(
            f"--ranks {count}: there are {torch.cuda.device_count()} CUDA devices, "
            "and each process takes one"
        )
    work = partial(run, config, run_dir, metrics_asked=metrics_asked)
    with local_ranks(count, work):
        return work()


def chosen_processes(config: TrainConfig) -> int:
    """One a core on a CPU, as far as the batch divides into shares of at least `FEWEST_IMAGES` and
    of whole groups of the discriminator, whose statistics would change with a smaller group.

    One in all on a GPU, and where OMP_NUM_THREADS is set: then the user has said what one process
    may take of the machine.
    """
    if resolve_device(config.device).type != "cpu" or THREADS in os.environ:
        return 1
    most = max(1, min(num_cores(), config.batch // FEWEST_IMAGES))
    return next(count for count in range(most, 0, -1) if _divides(config, count))


def _divides(config: TrainConfig, count: int) -> bool:
    if count == 1:
        return True  # where it does not, `start` says what is wrong
    try:
        size, _ = config.micro_batches(count)
    except UserError:
        return False
    return size % getattr(config.discriminator, "group_size", 1) == 0
