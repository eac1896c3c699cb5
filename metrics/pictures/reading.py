"""Pictures decoded in threads, a few batches ahead of the network that reads them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from dnnlib.cores import num_cores
from torch_utils import distributed

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) as pictures pass."""

_BATCHES_AHEAD = 4


def silent(what: str, done: int, total: int) -> None:
    """A `Progress` that says nothing."""


@dataclass(frozen=True)
class Compute:
    """Where networks run, how many pictures they take at once (per rank), and who hears of it."""

    device: torch.device
    batch_size: int
    progress: Progress = silent


def read_batches(
    read: Callable[[int], torch.Tensor],
    indices: range,
    compute: Compute,
    what: str,
    num_threads: int | None = None,
) -> Iterator[torch.Tensor]:
    """uint8 batches of `read(index)` for these indices, in page-locked memory if a GPU reads them.

    `what` names the pictures for the progress. `num_threads` is this rank's share of the cores by
    default. Pillow and zipfile release the interpreter's lock in their long parts, so threads keep
    a GPU busy.
    """
    done = 0
    threads = decoding_threads() if num_threads is None else num_threads
    for images in _ahead(read, indices, compute.batch_size, threads):
        done += len(images)
        yield images.pin_memory() if compute.device.type == "cuda" else images
        compute.progress(what, done, len(indices))


def _ahead(
    read: Callable[[int], torch.Tensor], indices: range, batch_size: int, num_threads: int
) -> Iterator[torch.Tensor]:
    pool = ThreadPoolExecutor(max(1, num_threads), thread_name_prefix="pictures")
    pending: deque[list[Future]] = deque()
    try:
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            pending.append([pool.submit(read, index) for index in batch])
            if len(pending) > _BATCHES_AHEAD:
                yield torch.stack([future.result() for future in pending.popleft()])
        while pending:
            yield torch.stack([future.result() for future in pending.popleft()])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decoding_threads() -> int:
    """This rank's share of the cores, at least one and at most 16."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", distributed.world_size()))
    return max(1, min(16, num_cores() // max(1, local)))
