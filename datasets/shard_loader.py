"""Training batches from WebDataset shards, and the position of a run in them.

Each loader process of each rank reads one stream. The order of a stream depends on the seed, the
rank, the process, and the images that training had seen when the streams began. The position is
saved in checkpoints, so a run that is resumed with as many ranks and loader processes continues
exactly. With other numbers, new streams begin.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from datasets.loader import Batch, drawn, loader_options
from datasets.patches import FRAME, WHOLE_PICTURES, PatchConfig, cut
from datasets.shard_stream import Cursor, Sample, Shards
from datasets.text_image import Record
from dnnlib.errors import UserError
from torch_utils.distributed import gather_objects

HEAD = 32  # samples that stand for the data set where pictures are shown


class ShardDataset:
    """A data set of shards; as a sequence it holds `HEAD` samples of the first shards.

    captioned: whether captions are read. side: pictures become squares of this side, as by an
    import with `--transform center-crop`; with patches, it is the least side of a picture.
    Raises `UserError` as `Shards` does, and if the first shard cannot be read.
    """

    splits = frozenset({"train"})

    def __init__(self, source: str, captioned: bool, side: int) -> None:
        self.shards, self.has_captions, self.side = Shards(source, captioned, side), captioned, side
        stream = self.shards.stream(Cursor(), "head")
        self._head = [sample for _, sample in itertools.islice(stream, HEAD)]

    def __len__(self) -> int:
        return len(self._head)

    def __getitem__(self, index: int) -> Record:
        sample = self._head[index]
        return Record(cut(sample.image, FRAME, self.side), sample.captions, sample.id)

    def captions(self, index: int) -> tuple[str, ...]:
        return self._head[index].captions

    @property
    def name(self) -> str:
        return self.shards.source

    @property
    def title(self) -> str:
        """What the data set holds, in words."""
        return f"{len(self.shards.urls)} shards of {self.name}"

    @property
    def content_hash(self) -> str:
        """A hash of the names and sizes of the shards; see `Shards.fingerprint`."""
        return self.shards.fingerprint()


class ShardPosition:
    """How far the loader processes of all ranks have read; a part of the checkpoint.

    since: images seen when the streams began. cursors: one a loader process, of this rank.
    """

    def __init__(self, rank: int, world_size: int, num_workers: int) -> None:
        self.rank, self.world_size, self.num_streams = rank, world_size, max(num_workers, 1)
        self.begin(0)

    def begin(self, images: int) -> None:
        """Start new streams."""
        self.since, self.cursors = images, [Cursor()] * self.num_streams
        self._all = [self.cursors]

    def passed(self, stream: int, cursor: Cursor) -> None:
        """The training has consumed the samples of a stream up to a cursor."""
        self.cursors[stream] = cursor

    def gather(self) -> None:
        """Collect the cursors of all ranks for `state_dict`. A collective call."""
        self._all = gather_objects(self.cursors)

    def state_dict(self) -> dict[str, Any]:
        cursors = [[list(cursor) for cursor in one] for one in self._all]
        return {"since": self.since, "cursors": cursors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the position; with other numbers of ranks or processes, `fits` is False."""
        self._all = [[Cursor(*cursor) for cursor in one] for one in state["cursors"]]
        self.since = state["since"]
        if self.fits:
            self.cursors = list(self._all[self.rank])

    @property
    def fits(self) -> bool:
        """Whether the state that was loaded has the ranks and processes of this run."""
        return [len(one) for one in self._all] == [self.num_streams] * self.world_size


@dataclass(frozen=True)
class StreamBatch(Batch):
    """A batch of one stream.

    stream: its number, from 0. cursor: how far it was read with this batch.
    left_out: samples before and between those of the batch that could not be used.
    """

    stream: int = 0
    cursor: Cursor = Cursor()
    left_out: int = 0


@dataclass(frozen=True)
class ShardBatches(IterableDataset):
    """The batches of one rank; its loader processes make them in turn.

    step: the number of the first batch in training. Other fields are as in `shard_batches`.
    """

    dataset: ShardDataset
    position: ShardPosition
    global_batch: int
    step: int
    seed: int
    mirror: bool
    patches: PatchConfig

    def __iter__(self) -> Iterator[StreamBatch | UserError]:
        worker, position = get_worker_info(), self.position
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        stream = (self.step + number) % count
        name = (self.seed, position.since, position.rank, position.world_size, stream, count)
        samples = self.dataset.shards.stream(position.cursors[stream], *name)
        try:
            for step in itertools.count(self.step + number, count):
                yield self._batch(step, stream, samples)
        except UserError as error:  # PyTorch would turn it into a message with a traceback
            yield error

    def _batch(
        self, step: int, stream: int, samples: Iterator[tuple[Cursor, Sample]]
    ) -> StreamBatch:
        size = self.global_batch // self.position.world_size
        first = step * self.global_batch + self.position.rank * size
        images, captions, boxes, left_out, cursor = [], [], [], 0, Cursor()
        for place in range(first, first + size):
            cursor, sample = next(samples)
            left_out += sample.left_out
            box, side = FRAME, self.dataset.side
            if self.patches.side:
                height, width = sample.image.shape[1:]
                box, side = self.patches.draw((width, height), self.seed, place), self.patches.side
            image, caption = drawn(
                sample.image,
                sample.captions,
                place,
                self.seed,
                self.mirror,
                (box, side, self.patches.filter),
            )
            images.append(image)
            captions.append(caption)
            boxes.append(box)
        return StreamBatch(
            torch.stack(images),
            captions,
            torch.arange(first, first + size),
            torch.tensor(boxes, dtype=torch.float64) if self.patches.side else None,
            stream,
            cursor,
            left_out,
        )


def shard_batches(
    dataset: ShardDataset,
    position: ShardPosition,
    *,
    global_batch: int,
    seed: int,
    mirror: bool = False,
    start_images: int = 0,
    pin_memory: bool = False,
    num_workers: int = 0,
    patches: PatchConfig = WHOLE_PICTURES,
    multiprocessing_context: str | None = None,
) -> Iterator[StreamBatch]:
    """This rank's share of every global batch, without end, from `position` on.

    As `datasets.loader.training_batches`, but the order also depends on the numbers of ranks and
    loader processes. The caller passes the cursor of each batch that it has used to
    `position.passed`. `indices` of a batch are positions in training. Raises `UserError` for a
    shard that cannot be read.
    """
    loader = DataLoader(
        ShardBatches(
            dataset, position, global_batch, start_images // global_batch, seed, mirror, patches
        ),
        batch_size=None,
        **loader_options(num_workers, pin_memory, multiprocessing_context, seed),
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch
