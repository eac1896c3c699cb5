"""Compare the rates of the loaders: a zip and WebDataset shards of the same pictures.

    python -m benchmarks.loaders --data ARCHIVE --json FILE

The shards are made for the run: tars in a temporary folder, with the files of the archive as they
are and a caption each, or with JPEGs in their place. Each way loads batches for `--seconds` with 1
to `--most` workers; the ways run in turn, and nothing else is computed.
"""

from __future__ import annotations

import io
import itertools
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image

from benchmarks.harness import RECORD, machine
from datasets.loader import Batch, training_batches
from datasets.shard_loader import ShardDataset, ShardPosition, shard_batches
from datasets.text_image import TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign

JPEG_QUALITY = 90


def write_shards(dataset: TextImageDataset, folder: Path, size: int, jpeg: bool) -> None:
    """Write the pictures of a data set to tars of `size` samples."""
    folder.mkdir()
    # PNGs without compression, as archives have them.
    options: dict[str, Any] = {"format": "PNG", "compress_level": 0}
    if jpeg:
        options = {"format": "JPEG", "quality": JPEG_QUALITY}
    for first in range(0, len(dataset), size):
        with tarfile.open(folder / f"{first // size:04d}.tar", "w") as tar:
            for index in range(first, min(first + size, len(dataset))):
                image, captions, _ = dataset[index]
                file = io.BytesIO()
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, **options)
                for ending, data in (
                    ("jpg" if jpeg else "png", file.getvalue()),
                    ("txt", (captions or ("",))[0].encode()),
                ):
                    member = tarfile.TarInfo(f"{index:08d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def rate(batches: Iterator[Batch], seconds: float) -> float:
    """Images/s of a loader, from its second batch a worker on."""
    for _ in itertools.islice(batches, 8):
        pass
    images, started = 0, time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        images += len(next(batches))
    return images / passed


@click.command()
@click.option("--data", required=True, metavar="ARCHIVE", help="A data set with captions.")
@click.option("--batch", default=32, show_default=True)
@click.option("--most", default=4, show_default=True, help="Most workers.")
@click.option("--seconds", default=3.0, show_default=True, help="Length of a way's turn.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--shard-size", default=500, show_default=True, help="Samples of a shard.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@report_user_errors
def main(
    data: str,
    batch: int,
    most: int,
    seconds: float,
    rounds: int,
    shard_size: int,
    json_path: Path | None,
) -> None:
    """Compare the rates of loading from a zip and from shards."""
    if json_path is not None:
        refuse_foreign(json_path, RECORD)
    archive = TextImageDataset(data)
    side = archive.resolution[0]
    rows = []
    with tempfile.TemporaryDirectory() as place:
        ways: dict[str, TextImageDataset | ShardDataset] = {"zip": archive}
        for kind in ("png", "jpeg"):
            folder = Path(place) / kind
            write_shards(archive, folder, shard_size, kind == "jpeg")
            ways[f"shards, {kind}"] = ShardDataset(str(folder), True, side)

        def batches(dataset: TextImageDataset | ShardDataset, workers: int) -> Iterator[Batch]:
            if isinstance(dataset, TextImageDataset):
                return training_batches(dataset, global_batch=batch, seed=0, num_workers=workers)
            position = ShardPosition(0, 1, workers)
            return shard_batches(dataset, position, global_batch=batch, seed=0, num_workers=workers)

        for workers in range(1, most + 1):
            rates: dict[str, list[float]] = {way: [] for way in ways}
            for _, way in itertools.product(range(rounds), ways):
                rates[way].append(rate(batches(ways[way], workers), seconds))
            rows.append(
                {"workers": workers, "batch": batch, "side": side, "pictures": len(archive)}
                | {way: statistics.median(found) for way, found in rates.items()}
            )
            print(rows[-1], flush=True)
    if json_path is not None:
        record = {"benchmark": "loaders", "machine": machine(torch.device("cpu")), "rows": rows}
        write_json(json_path, record, ours=RECORD)


if __name__ == "__main__":
    main()
