"""One pass of pictures through detectors: rows, moments or both, over all ranks, with decoding ahead of the network.

Batches only bound memory: rows come in picture order, and moments are sums, whatever the batch or the world is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from dnnlib.cores import num_cores
from metrics.features.detectors import Detector
from metrics.features.moments import Moments, MomentSums, Sums, moments_of, moments_of_sums
from metrics.pictures.ranks import shares_over_ranks
from torch_utils import distributed

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) as pictures pass."""

_BATCHES_AHEAD = 4


@dataclass(frozen=True)
class Want:
    """What the measures need of one detector."""

    rows: bool = False
    moments: bool = False

    def __or__(self, other: Want) -> Want:
        return Want(self.rows or other.rows, self.moments or other.moments)


@dataclass(frozen=True)
class Features:
    """rows: [N, D] in picture order, or None; moments: their mean and covariance, or None.

    Rows are float32, and uint8 where they are pixels.
    """

    count: int
    rows: np.ndarray | None = None
    moments: Moments | None = None

    def with_moments(self) -> Moments:
        """The moments, from the rows where they were not summed."""
        return moments_of(self.with_rows()) if self.moments is None else self.moments

    def with_rows(self) -> np.ndarray:
        """The rows, for a measure that said that it needs them."""
        assert self.rows is not None, "this measure must say that it needs rows"
        return self.rows


def extract(total: int, batches: Callable[[range], Iterable[torch.Tensor]], detectors: Mapping[str, Detector],
            wants: Mapping[str, Want]) -> dict[str, Features]:
    """Features by detector name, equal on all ranks. `batches(indices)` yields uint8 [n, 3, H, W] of these pictures.

    Rows stay on the detector's device until the end, so that nothing waits for a copy.
    """
    def mine(share: range) -> dict[str, tuple[np.ndarray | None, Sums | None]]:
        rows: dict[str, list[torch.Tensor]] = {name: [] for name in detectors}
        sums = {name: MomentSums() for name in detectors}
        for images in batches(share):
            for name, detector in detectors.items():
                features = detector(images)
                if wants[name].moments:
                    sums[name].add(features)
                if wants[name].rows:
                    rows[name].append(features)
        return {name: (torch.cat(rows[name]).cpu().numpy() if rows[name] else None, sums[name].sums()) for name in detectors}

    shares = shares_over_ranks(total, mine)
    return {name: _merge(total, [share[name] for share in shares], wants[name]) for name in detectors}


def _merge(total: int, shares: list[tuple[np.ndarray | None, Sums | None]], want: Want) -> Features:
    rows = None
    if want.rows:
        first = next(part for part, _ in shares if part is not None)
        rows = np.empty((total, first.shape[1]), first.dtype)
        for rank, (part, _) in enumerate(shares):
            if part is not None:
                rows[rank::len(shares)] = part
    return Features(total, rows, moments_of_sums([sums for _, sums in shares]) if want.moments else None)


def read_batches(read: Callable[[int], torch.Tensor], indices: range, *, batch_size: int, num_threads: int,
                 device: torch.device, progress: Progress, what: str) -> Iterator[torch.Tensor]:
    """uint8 batches of `read(index)`, decoded in threads a few batches ahead; pinned where a GPU will fetch them.

    Pillow and zipfile release the interpreter's lock in their long parts, so threads keep a GPU busy.
    """
    done = 0
    for images in _ahead(read, indices, batch_size, num_threads):
        done += len(images)
        yield images.pin_memory() if device.type == "cuda" else images
        progress(what, done, len(indices))


def _ahead(read: Callable[[int], torch.Tensor], indices: range, batch_size: int, num_threads: int) -> Iterator[torch.Tensor]:
    pool = ThreadPoolExecutor(max(1, num_threads), thread_name_prefix="pictures")
    pending: deque[list[Future]] = deque()
    try:
        for start in range(0, len(indices), batch_size):
            pending.append([pool.submit(read, index) for index in indices[start:start + batch_size]])
            if len(pending) > _BATCHES_AHEAD:
                yield torch.stack([future.result() for future in pending.popleft()])
        while pending:
            yield torch.stack([future.result() for future in pending.popleft()])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decoding_threads() -> int:
    """This rank's share of the cores, at least one, at most 16."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", distributed.world_size()))
    return max(1, min(16, num_cores() // max(1, local)))
