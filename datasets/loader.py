"""Training batches of pictures with captions.

The picture at a position of training, the choice of its caption and its flip are pure functions of
(seed, position). A run that resumes after k pictures therefore sees the same pictures as a run
without a stop, with any number of workers and ranks.
"""

from __future__ import annotations

import contextlib
import multiprocessing.util
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from datasets.patches import WHOLE_PICTURES, Box, Filter, PatchConfig, cut, mirrored
from datasets.sampler import InfiniteSampler, item_at
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from torch_utils.rng import generator_for, seed_for


@dataclass(frozen=True)
class Batch:
    """images: uint8 [n, 3, H, W]. indices: int64 [n] into the data set.

    captions: one a picture; '' in a data set without captions.
    boxes: float64 [n, 3], where the patches lie (`datasets.patches`); None for whole pictures.
    """

    images: torch.Tensor
    captions: list[str]
    indices: torch.Tensor
    boxes: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def pin_memory(self) -> Batch:
        """The batch in pinned memory, from which copies to the GPU run asynchronously.

        PyTorch's loader calls this method.
        """
        return replace(self, images=self.images.pin_memory())


def drawn(
    image: torch.Tensor,
    captions: Sequence[str],
    position: int,
    seed: int,
    mirror: bool,
    place: tuple[Box, int, Filter] | None,
) -> tuple[torch.Tensor, str]:
    """What training sees of a picture at a position: (image, mirrored or not; one of its captions).

    place: the box that is cut out, its side in pixels and the filter; None = the whole picture as
    it is. A picture without captions has the caption "".
    """
    flip = bool(mirror and seed_for("mirror", seed, position) % 2)
    choice = seed_for("caption", seed, position)
    if place:
        box, side, resize = place
        image = cut(image, mirrored(box) if flip else box, side, resize)
    caption = captions[choice % len(captions)] if captions else ""
    return image.flip(-1) if flip else image, caption


class TrainingDraws(Dataset):
    """Maps a position in training to {"image": uint8 [3, H, W], "caption": str, "index": int}.

    mirror: flip half of the pictures horizontally, at random.
    patches: show patches of `patches.side` pixels; the key "box" then says where they lie.
    """

    def __init__(
        self,
        dataset: TextImageDataset,
        seed: int,
        mirror: bool = False,
        patches: PatchConfig = WHOLE_PICTURES,
    ) -> None:
        self.dataset, self.seed, self.mirror, self.patches = dataset, seed, mirror, patches

    def __getitem__(self, position: int) -> dict[str, Any]:
        index = item_at(position, len(self.dataset), self.seed)
        image, captions, _ = self.dataset[index]
        box = None
        if self.patches.side:
            box = self.patches.draw(self.dataset.size(index), self.seed, position)
        place = (box, self.patches.side, self.patches.filter) if box else None
        image, caption = drawn(image, captions, position, self.seed, self.mirror, place)
        draw = {"image": image, "caption": caption, "index": index}
        return draw | {"box": box} if box else draw

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]] | UserError:
        # PyTorch turns a worker's exception into a message with a traceback. Returning the error
        # as a value keeps its message of one line.
        try:
            return [self[position] for position in positions]
        except UserError as error:
            return error


def training_batches(
    dataset: TextImageDataset,
    *,
    global_batch: int,
    seed: int,
    mirror: bool = False,
    rank: int = 0,
    world_size: int = 1,
    start_images: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
    patches: PatchConfig = WHOLE_PICTURES,
    multiprocessing_context: str | None = None,
) -> Iterator[Batch]:
    """This rank's share of every global batch, without end.

    global_batch: pictures of one step over all ranks; each rank gets global_batch / world_size.
    start_images: number of pictures that training has seen; the first batch starts there.
    patches: whether and how patches are shown instead of whole pictures.
    multiprocessing_context: 'fork', 'spawn' or 'forkserver'; None takes Python's default.
    The workers live as long as the iterator. Raises `UserError` at once if `world_size` does not
    divide the batch, and during the iteration if a picture is damaged.
    """
    sampler = InfiniteSampler(global_batch, rank, world_size, start_images)
    loader = DataLoader(
        TrainingDraws(dataset, seed, mirror, patches),
        batch_size=sampler.rank_batch,
        sampler=sampler,
        collate_fn=_collate,
        **loader_options(num_workers, pin_memory, multiprocessing_context, seed),
    )
    return _raise_errors(loader)


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Turn the error about a loader process that has died into a `UserError`.

    PyTorch raises it in the main thread at any moment, also while no batch is read.
    """
    try:
        yield
    except RuntimeError as error:
        death = re.search(
            r"DataLoader worker \(pid.*?\) (is killed by signal: [^.]*|exited unexpectedly)",
            f"{error.__cause__} {error}",  # the cause may name the signal
        )
        if death is None:
            raise
        end = death[1].replace("is killed", "was killed")
        raise UserError(
            f"a process that loads pictures {end}; if memory is short, start fewer of them "
            "(--workers). Saved files are whole: the same command resumes"
        ) from None


def loader_options(
    num_workers: int, pin_memory: bool, multiprocessing_context: str | None, seed: int
) -> dict[str, Any]:
    """The options of PyTorch's `DataLoader` for training; the arguments of `training_batches`."""
    if num_workers:
        multiprocessing.util.Finalize(None, _end_workers, exitpriority=1)
    return {
        "num_workers": num_workers,
        "prefetch_factor": 2 if num_workers else None,
        "pin_memory": pin_memory,
        "multiprocessing_context": multiprocessing_context if num_workers else None,
        "worker_init_fn": _ignore_stop_signals,
        # Without a generator, the loader would draw from PyTorch's global random stream.
        "generator": generator_for("loader", seed),
    }


def _ignore_stop_signals(worker: int) -> None:
    """Let a worker ignore SIGINT, SIGTERM and SIGUSR1.

    torchrun and schedulers signal the whole process group. The main process then saves its state,
    and needs its workers until that is done.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _end_workers() -> None:
    """Kill the workers that are left when this process ends.

    After an unexpected error its traceback keeps the loader alive, so nothing has ended them.
    Python would send them SIGTERM, which they ignore, and wait for their end without a limit.
    """
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _raise_errors(loader: DataLoader) -> Iterator[Batch]:
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _collate(draws: list[dict[str, Any]] | UserError) -> Batch | UserError:
    if isinstance(draws, UserError):
        return draws
    indices = torch.tensor([draw["index"] for draw in draws])
    boxes = None
    if "box" in draws[0]:
        boxes = torch.tensor([draw["box"] for draw in draws], dtype=torch.float64)
    return Batch(
        torch.stack([draw["image"] for draw in draws]),
        [draw["caption"] for draw in draws],
        indices,
        boxes,
    )
