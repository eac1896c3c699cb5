"""The commands of dataset_tool.py for finished data sets: `convert`, `verify` and `show`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from datasets.import_options import choice_option, path_option, print_summary, progress
from dnnlib.console import one_line, report_user_errors


@click.command()
@path_option("--source", "ZIP|DIR", "A data set of this program.")
@path_option("--dest", "ZIP|DIR", "Archive (.zip) or folder to write, which must not exist yet.")
@click.option(
    "--format",
    type=click.Choice(["stylegan"]),
    required=True,
    help="The program that will read the data set.",
)
@choice_option("--split", ["train", "test", "all"], "train", "Pictures to write.")
@choice_option(
    "--labels",
    ["none", "class"],
    "none",
    "class: write the numbers of the folders in the ids, such as CUB's CLASS/NAME.",
)
@report_user_errors
def convert(source: Path, dest: Path, format: str, split: str, labels: str) -> None:
    """Write a data set for another program. StyleGAN reads squares of a power of two and no
    captions.

    Example: dataset_tool.py convert --source data/cub256.zip --dest cub-stylegan.zip
    --format stylegan --labels class
    """
    from datasets.stylegan import write_stylegan

    assert format == "stylegan"
    for line in write_stylegan(source, dest, split=split, classes=labels == "class"):
        click.echo(line)


@click.command()
@path_option("--source", "ZIP|DIR", "The data set.")
@report_user_errors
def verify(source: Path) -> None:
    """Open every picture of a data set and check sizes, captions, ids and splits.

    Faults are printed one a line, and the exit code is 1. For a sound data set one line is printed
    and the exit code is 0.
    """
    from datasets.stylegan import open_archive
    from datasets.verify import archive_faults

    num_faults = 0
    for fault in archive_faults(source):
        click.echo(one_line(fault))  # it may hold names that a stranger chose
        num_faults += 1
    if num_faults:
        click.echo(f"{source}: {num_faults} faults", err=True)
        sys.exit(1)
    print_summary(source, open_archive(source).entries())


@click.command()
@path_option("--source", "ZIP|DIR", "The data set.")
@path_option("--dest", "PNG", "Picture to write; an earlier sheet is replaced.")
@click.option(
    "--num-images",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="Number of pictures on the sheet.",
)
@click.option(
    "--seed", metavar="INT", type=int, default=0, show_default=True, help="Seed of the draw."
)
@choice_option("--split", ["train", "test", "all"], "all", "Pictures to draw from and to count.")
@report_user_errors
def show(source: Path, dest: Path, num_images: int, seed: int, split: str) -> None:
    """Draw some pictures of a data set with their captions, and print statistics: sizes, number and
    length of captions, duplicates. Letters that Pillow's built-in font lacks are drawn without
    accents or as question marks.

    Example: dataset_tool.py show --source data/photos256.zip --dest sheet.png
    """
    from datasets.contact_sheet import check_sheet, dataset_table, draw_sheet
    from datasets.statistics import table_lines
    from datasets.text_image import TextImageDataset

    check_sheet(dest)
    dataset = TextImageDataset(source, split=split)
    num_drawn = draw_sheet(dataset, dest, num_images, seed)
    with progress(range(len(dataset)), "Counting") as bar:
        table = dataset_table(dataset, (dataset[index] for index in bar))
    for line in table_lines(table):
        click.echo(line)
    click.echo(f"{dest}: {num_drawn} of {len(dataset)} pictures")
