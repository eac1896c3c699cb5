"""Prepare and check data sets: OpenMoji from its Python package, or any folder of captioned pictures."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from dnnlib.console import report_user_errors
from dnnlib.errors import UserError

MAX_SIDE_PX = 4096
_RESOLUTION = click.option("--resolution", metavar="WxH", default="64x64", show_default=True,
                           help="Size of every picture in the data set, for example 256x256.")
_DEST = click.option("--dest", metavar="ZIP|DIR", type=click.Path(path_type=Path), required=True,
                     help="Where to write: a .zip archive, or a folder. Replaced only when the new one is whole.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Prepare and check data sets of captioned pictures.

    A data set is an uncompressed zip (or a folder) of PNGs of one size with a dataset.json that holds captions, ids,
    splits, source and licence.
    """


@main.command()
@_DEST
@_RESOLUTION
@click.option("--max-images", metavar="N", type=click.IntRange(min=1), help="Only N drawings, spread over all.")
@click.option("--seed", metavar="INT", type=int, default=0, show_default=True,
              help="Deals the concepts out to train (85 %) and test (15 %).")
@report_user_errors
def openmoji(dest: Path, resolution: str, max_images: int | None, seed: int) -> None:
    """Render the OpenMoji drawings (CC-BY-SA-4.0) with captions from their names and colours.

    Needs no network: drawings and names come from the installed Python packages. Variants of one concept, such as
    skin tones, stay on one side of the train / test split. Drawings without an English name are left out.

    Example: dataset_tool.py openmoji --dest data/openmoji64.zip --resolution 64x64
    """
    from datasets.archive import write_archive
    from datasets.openmoji import find_emojis, openmoji_info, openmoji_pictures

    size = _picture_size(resolution)
    emojis, unnamed = find_emojis(max_images, seed)
    with click.progressbar(emojis, label="Rendering", file=sys.stderr) as bar:
        entries = write_archive(dest, openmoji_pictures(bar, size), size, openmoji_info(emojis, unnamed, seed))
    _print_summary(dest, entries, size)
    click.echo(f"Left out {len(unnamed)} drawings that have no English name.")


@main.command()
@click.option("--source", metavar="DIR", type=click.Path(path_type=Path), required=True,
              help="Pictures, each with a NAME.txt beside it (a caption a line), or one captions.jsonl for all.")
@_DEST
@_RESOLUTION
@click.option("--transform", type=click.Choice(["center-crop", "pad", "stretch"]), default="center-crop",
              show_default=True, help="How a picture of another shape is made to fit.")
@click.option("--max-images", metavar="N", type=click.IntRange(min=1), help="Stop after N usable pictures.")
@click.option("--test-share", metavar="SHARE", type=click.FloatRange(min=0, max=1, max_open=True), default=0.0, show_default=True,
              help="About this share of the pictures, by the hash of their names, is kept for scores.")
@report_user_errors
def folder(source: Path, dest: Path, resolution: str, transform: str, max_images: int | None, test_share: float) -> None:
    """Import a folder of pictures with captions; subfolders are searched too.

    A line of captions.jsonl is {"file": "a/b.jpg", "captions": ["...", "..."]}, with "split": "train" or "test" if
    you like; --test-share deals out the others. EXIF rotation, greyscale, transparency (over white), CMYK, palettes
    and 16 bits are handled; resizing is Lanczos. Files that cannot be used are named and skipped, and dataset.json
    lists them.

    Example: dataset_tool.py folder --source photos --dest data/photos256.zip --resolution 256x256
    """
    from datasets.archive import write_archive
    from datasets.folder import ImportReport, find_sources, folder_info, folder_pictures

    size = _picture_size(resolution)
    report = ImportReport()
    sources = find_sources(source, report, test_share)
    with click.progressbar(sources, label="Importing", file=sys.stderr) as bar:
        pictures = folder_pictures(bar, size, report, transform, max_images)
        try:
            entries = write_archive(dest, pictures, size, folder_info(source, transform, report, test_share))
        finally:
            for skipped in report.skipped:
                click.echo(f"Skipped {skipped['file']}: {skipped['reason']}")
    _print_summary(dest, entries, size)
    where = ", listed above and in dataset.json" if report.skipped else ""
    click.echo(f"Skipped {len(report.skipped)} files{where}.")


@main.command()
@click.option("--source", metavar="ZIP|DIR", type=click.Path(path_type=Path), required=True, help="The data set.")
@report_user_errors
def verify(source: Path) -> None:
    """Open every picture of a data set and check sizes, captions, ids and splits.

    Prints a line a fault and leaves with exit code 1; a sound data set gets one line and exit code 0.
    """
    from datasets.archive import Archive
    from datasets.verify import archive_faults

    num_faults = 0
    for num_faults, fault in enumerate(archive_faults(source), start=1):
        click.echo(fault)
    if num_faults:
        click.echo(f"{source}: {num_faults} faults", err=True)
        sys.exit(1)
    archive = Archive(source)
    _print_summary(source, archive.entries(), archive.resolution)


def _picture_size(resolution: str) -> tuple[int, int]:
    """(width, height) of `--resolution`, within what a training picture can be. Raises `UserError`."""
    from networks.coordinates import parse_size

    size = parse_size(resolution)
    if max(size) > MAX_SIDE_PX:
        raise UserError(f"--resolution {resolution}: a side may have at most {MAX_SIDE_PX} pixels")
    return size


def _print_summary(dest: Path, entries: list, size: tuple[int, int]) -> None:
    num_test = sum(entry.split == "test" for entry in entries)
    num_captions = sum(len(entry.captions) for entry in entries)
    click.echo(f"{dest}: {len(entries)} pictures of {size[0]}x{size[1]} ({len(entries) - num_test} train, "
               f"{num_test} test) with {num_captions} captions")


if __name__ == "__main__":
    # A stopped run must clean up its temporary file, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
