"""The number of processes of a run, and their start.

Without torchrun, `train.py` on a CPU starts a process on each core.
"""

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

# The fewest images of a step for one process. With fewer images, most of the time goes to work that
# does not depend on their number (benchmarks/scaling.py, docs/performance.md).
FEWEST_IMAGES = 4


def start(
    config: TrainConfig, run_dir: Path, *, processes: int | None, metrics_asked: bool = True
) -> bool:
    """Call `training.launch.run` in several processes of this machine -> its result.

    processes: None = `chosen_processes`. Under torchrun it must be None, because torchrun has
    started the processes. Raises `UserError` if the batch or the GPUs do not allow the number.
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
    """The number of processes if the user has not chosen it.

    On a CPU it is the largest number up to the number of cores that divides the batch into shares
    of at least `FEWEST_IMAGES` images and of whole groups of the discriminator. A smaller group
    would change the minibatch statistics. On a GPU it is one. It is also one if OMP_NUM_THREADS is
    set, because the user has then chosen the threads of one process.
    """
    if resolve_device(config.device).type != "cpu" or THREADS in os.environ:
        return 1
    most = max(1, min(num_cores(), config.batch // FEWEST_IMAGES))
    return next(count for count in range(most, 0, -1) if _divides(config, count))


def _divides(config: TrainConfig, count: int) -> bool:
    if count == 1:
        return True  # if one process cannot run the batch either, `start` raises the error
    try:
        size, _ = config.micro_batches(count)
    except UserError:
        return False
    return size % getattr(config.discriminator, "group_size", 1) == 0
