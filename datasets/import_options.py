"""What the importing commands of dataset_tool.py share: options, a progress bar and a report."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.console import report_user_errors
from dnnlib.cores import num_cores
from dnnlib.empty_options import GivenPath

if TYPE_CHECKING:
    from datasets.archive import Entry
    from datasets.importing import RawPicture, Transform
    from datasets.picture_files import Icc
    from datasets.report import Report


def path_option(
    flag: str, metavar: str, help: str, *, required: bool = True, multiple: bool = False
) -> Callable:
    """A click option whose value is a `Path`."""
    return click.option(
        flag,
        metavar=metavar,
        type=GivenPath(),
        required=required,
        multiple=multiple,
        help=help,
    )


def text_option(flag: str, metavar: str, help: str, default: str | None = None) -> Callable:
    """A click option with a text as value."""
    shown = default is not None
    return click.option(flag, metavar=metavar, default=default, show_default=shown, help=help)


def choice_option(flag: str, choices: Sequence[str], default: str, help: str) -> Callable:
    """A click option with a fixed set of values."""
    return click.option(
        flag, type=click.Choice(choices), default=default, show_default=True, help=help
    )


RESOLUTION = click.option(
    "--resolution",
    metavar="WxH",
    default="64x64",
    show_default=True,
    help="Size of every picture in the data set, for example 256x256; the smallest size with "
    "--transform none.",
)
DEST = path_option(
    "--dest",
    "ZIP|DIR",
    "Archive (.zip) or folder to write. An existing one is replaced only when the new one is "
    "complete.",
)
TRANSFORM = choice_option(
    "--transform",
    ["center-crop", "pad", "stretch", "none"],
    "center-crop",
    "How to fit pictures of another aspect ratio. none: keep the size and shape of every picture, "
    "for train.py --patch, and leave out pictures smaller than --resolution.",
)

FOLLOW_LINKS = click.option(
    "--follow-links",
    is_flag=True,
    help="Also read symbolic links to folders, and to files outside the folder.",
)
SPLIT_OF_SOURCE = choice_option(
    "--split",
    ["auto", "train", "test"],
    "auto",
    "auto: by the name of the file or folder, where val and test become test.",
)
NO_CAPTIONS = click.option(
    "--no-captions",
    is_flag=True,
    help="Import the pictures without captions; train.py --cond false trains on them.",
)


def caption_options(command: Callable) -> Callable:
    """Decorator: adds `captions`, the `datasets.folder.Captions` of four options."""

    @click.option(
        "--captions-from",
        metavar="FORM",
        help="Form of the captions to read.  [default: the first form that is there]",
    )
    @click.option(
        "--caption-column",
        metavar="NAME",
        help="Column of a table with the captions.  [default: captions, caption, text, ...]",
    )
    @click.option(
        "--caption-template",
        metavar="TEXT",
        help="Make captions such as 'a photo of a {}', with the name of the picture's folder for "
        "{}. A leading number (001., n02085620-) is dropped and underscores become spaces. Without "
        "{}, all pictures get the same caption.",
    )
    @NO_CAPTIONS
    @report_user_errors
    @functools.wraps(command)
    def with_captions(
        captions_from: str | None,
        caption_column: str | None,
        caption_template: str | None,
        no_captions: bool,
        **options: Any,
    ) -> None:
        from datasets.folder import Captions

        captions = Captions(captions_from, caption_template, no_captions, caption_column)
        command(captions=captions, **options)

    return with_captions


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
                help="Import N usable pictures: a random draw, or the first ones of tars, LMDB and "
                "Arrow files.",
            ),
            choice_option(
                "--icc",
                ["convert", "ignore"],
                "convert",
                "Embedded colour profiles: convert to sRGB, or ignore, as most papers do.",
            ),
            click.option(
                "--workers",
                metavar="N",
                type=click.IntRange(min=1),
                help="Number of decoding threads.  [default: the number of cores]",
            ),
            click.option(
                "--strict",
                is_flag=True,
                help="Stop at the first defect. Without this option, defects are counted and "
                "skipped.",
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


def print_summary(dest: Path, entries: list[Entry]) -> None:
    """Print one line: the sizes and the counts of a data set."""
    sizes = sorted({entry.size for entry in entries}, key=lambda size: (size[0] * size[1], size))
    shown = " to ".join("{}x{}".format(*size) for size in dict.fromkeys((sizes[0], sizes[-1])))
    num_test = sum(entry.split == "test" for entry in entries)
    num_captions = sum(len(entry.captions) for entry in entries)
    click.echo(
        f"{dest}: {len(entries)} pictures of {shown} "
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
    size: (width, height) in pixels; the smallest size if the transform is 'none'.
    box_scale: see `datasets.importing.crop_to_box`.
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
        resolution = None if transform == "none" else size
        entries = write_archive(dest, pictures, resolution, info, archive_faults)
    print_summary(dest, entries)
