"""What the importing commands of dataset_tool.py share: options, a progress bar and a report."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.cores import num_cores

if TYPE_CHECKING:
    from datasets.archive import Entry
    from datasets.importing import RawPicture, Transform
    from datasets.picture_files import Icc
    from datasets.report import Report

RESOLUTION = click.option(
    "--resolution",
    metavar="WxH",
    default="64x64",
    show_default=True,
    help="Size of every picture in the data set, for example 256x256.",
)
DEST = click.option(
    "--dest",
    metavar="ZIP|DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="Where to write: a .zip archive, or a folder. Replaced only when the new one is whole.",
)
TRANSFORM = click.option(
    "--transform",
    type=click.Choice(["center-crop", "pad", "stretch"]),
    default="center-crop",
    show_default=True,
    help="How a picture of another shape is made to fit.",
)

FOLLOW_LINKS = click.option(
    "--follow-links",
    is_flag=True,
    help="Read folders that are links as well. Files that are links are always read.",
)


def import_options(command: Callable) -> Callable:
    """Decorator: adds the options of all importers of picture files."""
    for option in reversed(
        (
            DEST,
            RESOLUTION,
            TRANSFORM,
            click.option(
                "--max-images",
                metavar="N",
                type=click.IntRange(min=1),
                help="N usable pictures: a seeded draw over all, or the first ones of what is "
                "read as it comes (tars, LMDB, Arrow).",
            ),
            click.option(
                "--icc",
                type=click.Choice(["convert", "ignore"]),
                default="convert",
                show_default=True,
                help="Embedded colour profiles: convert to sRGB, or "
                "ignore them as most papers' preparations do.",
            ),
            click.option(
                "--workers",
                metavar="N",
                type=click.IntRange(min=1),
                help="Decoding threads.  [default: cores]",
            ),
            click.option(
                "--strict",
                is_flag=True,
                help="Stop at the first defect instead of counting and going on.",
            ),
        )
    ):
        command = option(command)
    return command


def progress(
    items: Iterable, label: str, length: int | None = None
) -> contextlib.AbstractContextManager:
    """A context that yields `items`, with a progress bar if stderr is a terminal.

    length: the number of items, if it is known and `items` has no length.
    """
    if not sys.stderr.isatty():
        return contextlib.nullcontext(items)
    return click.progressbar(items, label=label, length=length, file=sys.stderr, show_pos=True)


@contextlib.contextmanager
def import_to(
    dest: Path, size: tuple[int, int], strict: bool, **options: Any
) -> Iterator[tuple[Report, Callable[..., None]]]:
    """A context that yields a report and `import_into` with the options already given.

    `dest` is checked before the source is read. The report is printed on leaving the context, also
    after an error. size: (width, height) in pixels.
    """
    from datasets.archive import check_dest
    from datasets.report import Report

    check_dest(dest)
    report, written = Report(strict=strict), False
    try:
        yield report, functools.partial(import_into, report=report, dest=dest, size=size, **options)
        written = True
    finally:
        for line in report.lines(written):
            click.echo(line)


def print_summary(dest: Path, entries: list[Entry], size: tuple[int, int]) -> None:
    """Print one line: the counts of a data set of pictures of size = (width, height)."""
    num_test = sum(entry.split == "test" for entry in entries)
    num_captions = sum(len(entry.captions) for entry in entries)
    click.echo(
        f"{dest}: {len(entries)} pictures of {size[0]}x{size[1]} "
        f"({len(entries) - num_test} train, {num_test} test) with {num_captions} captions"
    )


def import_into(
    raws: list[RawPicture] | Iterator[RawPicture],
    source: str,
    total: int | None = None,
    *,
    report: Report,
    dest: Path,
    size: tuple[int, int],
    transform: Transform,
    icc: Icc,
    max_images: int | None,
    workers: int | None,
    box_scale: float | None = None,
    **more: Any,
) -> None:
    """Import pictures, write the data set to `dest` and print its summary.

    raws: if a list, no id may be in both splits, and `max_images` pictures are a seeded draw. An
        iterator is read in its order until `max_images` pictures are usable.
    source: description of the source for dataset.json.
    total: the number of pictures that an iterator yields, if known.
    size: (width, height) in pixels. box_scale: see `datasets.importing.crop_to_box`.
    workers: decoding threads; None takes the number of cores.
    more: further entries of dataset.json.
    """
    from datasets.archive import write_archive
    from datasets.importing import fair_order, import_info, import_pictures, keep_apart
    from datasets.verify import archive_faults

    if isinstance(raws, list):
        raws = keep_apart(raws, report)
        total = len(raws)
        if max_images is not None and max_images < total:
            raws = fair_order(raws)
            more["part"] = f"{max_images} usable ones of {total} pictures, a seeded draw"
    info = import_info(source, transform, report, icc=icc, **more)
    with progress(raws, "Importing", total) as bar:
        pictures = import_pictures(
            bar,
            size,
            report,
            transform=transform,
            box_scale=box_scale,
            icc=icc,
            max_images=max_images,
            num_threads=workers or num_cores(),
        )
        entries = write_archive(dest, pictures, size, info, archive_faults)
    print_summary(dest, entries, size)
