"""Read WebDataset shards for training as endless streams of samples, without an index.

A stream draws its shards with replacement, reads each of them once from start to end, and shuffles
the samples in blocks of `BLOCK`. The order is a pure function of the stream's name. A `Cursor` says
how far a stream was read, so that it can be continued after it: the shard is read again up to that
place, and nothing before it is decoded.

Shards are local tar files, or the output of a command (`pipe:curl -s URL`), which the package
webdataset runs. Members of tars are bounded as in an import (`datasets.packed_files`).
"""

from __future__ import annotations

import glob
import hashlib
import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from datasets.packed_files import PackedError, tar_members
from datasets.picture_files import PictureError, is_picture_name, load_rgb
from datasets.report import Report
from datasets.tar_shards import captions_of, picture_of, samples_of
from dnnlib.errors import UserError, library_errors, reason_of
from dnnlib.names import is_hidden, printable
from torch_utils.rng import generator_for, seed_for

PIPE = "pipe:"
# Samples that are shuffled together. They are in memory, not decoded.
BLOCK, BLOCK_BYTES = 1000, 256 << 20
WAITS_S = (1.0, 5.0, 25.0)  # before a shard that failed is tried again
TIMEOUT_S = 120.0  # without a byte from a pipe


class Cursor(NamedTuple):
    """How far a stream was read: shards that it has finished, and samples of the one after them."""

    shards: int = 0
    samples: int = 0


class Sample(NamedTuple):
    """A usable sample.

    image: uint8 [3, H, W], in the size that it has in the shard.
    left_out: the number of samples directly before it that cannot be used.
    """

    image: torch.Tensor
    captions: tuple[str, ...]
    id: str
    left_out: int = 0


def is_shards(source: str) -> bool:
    """Whether the value of --data names shards: a pipe, *.tar, or a folder with tars.

    A folder with an index or with pictures is a data set of pictures.
    """
    if source.startswith(PIPE) or source.endswith(".tar"):
        return True
    names = os.listdir(source) if os.path.isdir(source) else []
    pictures = any(name == "dataset.json" or is_picture_name(name) for name in names)
    return not pictures and any(name.endswith(".tar") for name in names)


class Shards:
    """The shards that `source` names, and the reading of their samples.

    source: a folder, a path with braces ('cc/{0000..0331}.tar') or a glob pattern, or such paths
        behind `pipe:` ('pipe:aws s3 cp s3://bucket/{00..99}.tar -').
    captioned: whether samples without captions are left out.
    side: samples whose short side has fewer pixels are left out.
    Raises `UserError` if there are no shards.
    """

    def __init__(self, source: str, captioned: bool, side: int) -> None:
        self.source, self.captioned, self.side = source, captioned, side
        self.urls = _expanded(source)

    def fingerprint(self) -> str:
        """A hash of the names and sizes of the shards; a pipe has no size. Nothing is read."""
        digest = hashlib.sha256()
        for url in self.urls:
            size = 0 if url.startswith(PIPE) else _size(url)
            name = url if url.startswith(PIPE) else Path(url).name
            digest.update(f"{name}\0{size}\n".encode())
        return digest.hexdigest()

    def stream(self, cursor: Cursor, *name: int | str) -> Iterator[tuple[Cursor, Sample]]:
        """The samples of a stream after `cursor`, without end, each with the cursor after it.

        name: names the stream; its order depends on nothing else. Raises `UserError` for a shard
        that cannot be read after all attempts, and for one without a usable sample.
        """
        number, start = cursor
        left_out = 0
        while True:
            url = self.urls[seed_for("shard", *name, number) % len(self.urls)]
            usable, place, reasons = start > 0, 0, ""
            for count, block in enumerate(_blocks(_read(url))):
                order = torch.randperm(
                    len(block), generator=generator_for("block", *name, number, count)
                )
                for index in order.tolist():
                    place += 1
                    if place <= start:
                        continue
                    sample = self._sample(url, *block[index])
                    if isinstance(sample, str):
                        left_out, reasons = left_out + 1, sample
                        continue
                    usable = True
                    yield Cursor(number, place), sample._replace(left_out=left_out)
                    left_out = 0
            if not usable:
                raise UserError(
                    f"--data {printable(url)}: no sample of this shard can be used "
                    f"({reasons or 'it is empty'})"
                )
            number, start = number + 1, 0

    def _sample(self, url: str, key: str, members: dict[str, bytes]) -> Sample | str:
        """The sample of a key, or the reason why it cannot be used."""
        data = picture_of(members)
        if data is None:
            return f"{key}: no picture"
        captions = captions_of(members, key, Report()) if self.captioned else ()
        if self.captioned and not captions:
            return f"{key}: no captions"
        try:
            picture = load_rgb(data, key).picture
        except PictureError as error:
            return str(error)
        if min(picture.size) < self.side:
            return f"{key}: {picture.width}x{picture.height} is smaller than {self.side}"
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        image = pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)
        return Sample(image, captions, f"{_name_of(url)}/{key}")


def _expanded(source: str) -> list[str]:
    """The shards of --data, sorted. Raises `UserError` if there is none."""
    if source.startswith(PIPE) or "{" in source:
        expand = _webdataset()[0]
        with library_errors(lambda reason: UserError(f"--data {printable(source)}: {reason}")):
            urls = list(expand(source))
    elif Path(source).is_dir():
        urls = [str(path) for path in Path(source).glob("*.tar")]
    else:
        urls = glob.glob(source) or [source]
    urls = sorted(url for url in urls if not is_hidden(Path(url).name))
    if not any(url.startswith(PIPE) or os.path.exists(url) for url in urls):
        raise UserError(f"--data {printable(source)}: no .tar files there")
    return urls


def _webdataset() -> tuple[Any, Any]:
    """webdataset's functions that expand the braces of URLs, and open one."""
    try:
        from webdataset.gopen import gopen
        from webdataset.shardlists import expand_urls
    except ImportError:
        raise UserError(
            "--data: braces and pipes of shards need the package webdataset: pip install webdataset"
        ) from None
    return expand_urls, gopen


def _name_of(url: str) -> str:
    return url if url.startswith(PIPE) else Path(url).stem


def _size(url: str) -> int:
    try:
        return Path(url).stat().st_size
    except OSError as error:
        raise UserError(f"--data {printable(url)}: {reason_of(error)}") from None


def _blocks(samples: Iterator[tuple[str, dict[str, bytes]]]) -> Iterator[list]:
    """The samples in lists of `BLOCK`, or of fewer that hold `BLOCK_BYTES` or more."""
    block, size = [], 0
    for sample in samples:
        block.append(sample)
        size += sum(map(len, sample[1].values()))
        if len(block) == BLOCK or size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _read(url: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, bytes by file ending) of the samples of a shard.

    A shard that is missing, damaged or slow is opened again after the times of `WAITS_S`, and the
    samples that were read before are passed over. Raises `UserError` after the last attempt.
    """
    given = 0
    for wait in (*WAITS_S, None):
        try:
            for number, sample in enumerate(_once(url)):
                if number >= given:
                    given += 1
                    yield sample
            return
        except (PackedError, OSError) as error:
            reason = error.reason if isinstance(error, PackedError) else reason_of(error)
        if wait is None:
            raise UserError(
                f"--data {printable(url)}: cannot be read, tried {len(WAITS_S) + 1} times "
                f"({reason}); repair this shard, or take it out of --data"
            )
        print(f"{printable(url)}: {reason}; trying again in {wait:g} s", file=sys.stderr)
        time.sleep(wait)


def _once(url: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a shard in one attempt."""
    if not url.startswith(PIPE):
        yield from samples_of(tar_members(url), Report())
        return
    pipe = _webdataset()[1](url, bufsize=0)
    try:
        output = _Patient(pipe)
        yield from samples_of(tar_members(url, output), Report())
        while output.read(2**16):  # after the end mark; a command whose output is cut off fails
            pass
        pipe.close()  # raises an OSError if the command failed
    finally:
        if pipe.proc.poll() is None:
            pipe.proc.kill()
        pipe.stream.close()


class _Patient:
    """The output of a command. A read of it fails if no byte comes for `TIMEOUT_S` seconds."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def read(self, size: int) -> bytes:
        if not select.select([self.pipe.stream], [], [], TIMEOUT_S)[0]:
            self.pipe.proc.kill()
            raise TimeoutError(f"no byte for {TIMEOUT_S:g} s")
        return self.pipe.read(size)
