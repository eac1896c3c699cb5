"""Compute the scores of real pictures, which a perfect generator would have.

    python -m benchmarks.measure_floors --data data/flowers64.zip --json FILE

Training pictures represent a perfect generator of the training classes, one half of the test
pictures a perfect generator of the test classes. They are written as folders with their first
captions and scored by the code of `calc_metrics.py calc --images`. `cpu_seconds` is processor time
with one thread. For the first row of a detector it includes reading the pictures.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from benchmarks.harness import RECORD, machine
from benchmarks.sensitivity import write_folder
from datasets.text_image import Record, TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign
from metrics.evaluations import evaluations_named
from metrics.pictures.folder_subject import FolderSubject
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.sources import Sources
from metrics.runner import evaluate
from torch_utils.rng import generator_for

MEASURES = ("swd", "lattice", "motif", "ppd", "kid_lite2", "pr_lite2", "dc_lite2")
COPIES = ("nearest_train_lite2",)


def drawn(data: Path, split: str, num: int | None = None) -> list[Record]:
    """The first `num` pictures of a split in a seeded order; all if `num` is None."""
    dataset = TextImageDataset(data, split=split)
    order = torch.randperm(len(dataset), generator=generator_for("measure floors", split))
    return [dataset[index] for index in order[:num].tolist()]


def written(place: Path, records: Sequence[Record]) -> Path:
    """Write the pictures with their first captions into a new folder `place` and return it."""
    write_folder(
        place, [record.image for record in records], [record.captions[0] for record in records]
    )
    return place


def scored(
    name: str, place: Path, sources: Sources, measures: Sequence[str], cache: Path
) -> list[dict]:
    """The record's rows, one for each measure of the pictures in the folder `place`."""
    pictures, rows, started = PictureFolder(place), [], time.process_time()
    for score in evaluate(
        FolderSubject(pictures),
        sources,
        evaluations_named(measures),
        num=len(pictures),
        cache_dir=cache,
    ):
        kept = (
            "metric",
            "value",
            "recall",
            "coverage",
            "parts",
            "real_pairs",
            "num_generated",
            "num_real",
        )
        rows.append(
            {"pictures": name}
            | {key: score[key] for key in kept if key in score}
            | {"cpu_seconds": round(time.process_time() - started, 2)}
        )
        click.echo(rows[-1], err=True)
        started = time.process_time()
    return rows


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="ZIP|DIR")
@click.option(
    "--num-images", "num", default=1000, show_default=True, help="Number of training pictures."
)
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the record to this file.",
)
@report_user_errors
def main(data: Path, num: int, path: Path | None) -> None:
    """Score real pictures against other real pictures."""
    if path:
        refuse_foreign(path, RECORD)
    torch.set_num_threads(1)
    train, test = drawn(data, "train", num), drawn(data, "test")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        cache.mkdir()
        half = written(folder / "half", test[: len(test) // 2])
        other = written(folder / "other_half", test[len(test) // 2 :])
        whole = Sources(data=data)
        rows = [
            *scored("train against test", written(folder / "train", train), whole, MEASURES, cache),
            *scored(
                "half of test against the other half",
                half,
                Sources(data=data, reference=other),
                MEASURES,
                cache,
            ),
            *scored("half of test beside train", half, whole, COPIES, cache),
        ]
    if path:
        write_json(
            path,
            {
                "benchmark": "measure floors",
                "date": datetime.date.today().isoformat(),
                "data": data.stem,
                "rows": rows,
                "machine": machine(torch.device("cpu")),
            },
            ours=RECORD,
        )


if __name__ == "__main__":
    main()
