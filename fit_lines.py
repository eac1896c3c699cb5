"""Fit one picture by thick bi-lines of several thicknesses, beside low-rank matrices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.names import printable
from dnnlib.version import VERSION

if TYPE_CHECKING:
    import torch

    from networks.line_fitting import Fit

MAX_THICKNESS = 64
RECORD_KEYS = ("picture", "fits")
STRIP_MARK = "fit_lines"


@click.command(context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option("--picture", required=True, metavar="FILE", help="Picture to fit.")
@click.option(
    "--thickness", default="1,2,4,8,16", show_default=True, metavar="LIST", help="Values of D."
)
@click.option(
    "--side",
    type=click.IntRange(8, 1024),
    default=128,
    show_default=True,
    help="Most pixels of a side; larger pictures are shrunk, and their aspect is kept.",
)
@click.option(
    "--channels",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    help="Feature channels K of the lines.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=1000, show_default=True, help="Steps of Adam a fit."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the initial values of the lines.",
)
@click.option(
    "--outdir",
    default="out",
    show_default=True,
    metavar="DIR",
    help="Where fit_lines.json and fit_lines.png go.",
)
@report_user_errors
def main(
    picture: str, thickness: str, side: int, channels: int, steps: int, seed: int, outdir: str
) -> None:
    """Print the PSNR of thick bi-lines over their thickness D, beside that of matrices of low rank
    (truncated SVD of each colour) of at least as many numbers. Write the table and a strip of
    pictures: the original and the bi-lines above, the original and the low ranks below.

    \b
    Example:
      python fit_lines.py --picture cat.png --thickness 1,2,4,8,16 --outdir out/lines
    """
    sizes = parse_thickness(thickness)
    from datasets.import_options import progress
    from dnnlib.files import check_target, write_json
    from dnnlib.ownership import json_with
    from networks.line_fitting import fit_lines, low_rank
    from torch_utils.local_ranks import use_one_thread
    from torch_utils.pictures import png_with

    use_one_thread()
    record, strip = Path(outdir, "fit_lines.json"), Path(outdir, "fit_lines.png")
    check_target(record, json_with(*RECORD_KEYS))
    check_target(strip, png_with(STRIP_MARK))
    target = read_picture(picture, side)
    fits = []
    with progress(range(len(sizes) * steps), "Fitting") as bar:
        ticks = iter(bar)
        for size in sizes:
            lines = fit_lines(
                target,
                size,
                channels=channels,
                steps=steps,
                seed=seed,
                progress=lambda: next(ticks, None),
            )
            fits.append((lines, low_rank(target, lines.numbers)))
        next(ticks, None)
    click.echo(table(fits))
    height, width = target.shape[1:]
    facts = {
        "picture": printable(Path(picture).name),
        "size": f"{width}x{height}",
        "channels": channels,
        "steps": steps,
        "seed": seed,
    }
    rows = [{"lines": _row(lines), "low_rank": _row(matrix)} for lines, matrix in fits]
    write_json(record, facts | {"fits": rows}, ours=json_with(*RECORD_KEYS))
    _write_strip(strip, target, fits, printable(Path(picture).name))
    click.echo(f"{record}\n{strip}", err=True)


def parse_thickness(text: str) -> list[int]:
    """'1,2,4' -> [1, 2, 4], in ascending order, each once. Raises `UserError`."""
    known = {str(number): number for number in range(1, MAX_THICKNESS + 1)}
    parts = {part.strip().lstrip("0") for part in text.split(",")}
    if not parts <= known.keys():
        raise UserError(
            f"--thickness {text}: expected whole numbers from 1 to {MAX_THICKNESS}, such as 1,2,4"
        )
    return sorted(known[part] for part in parts)


def read_picture(path: str, side: int) -> torch.Tensor:
    """A picture file as [3, H, W] in [-1, 1], no side longer than `side`. Raises `UserError`."""
    import numpy
    import torch

    from datasets.picture_files import load_rgb
    from torch_utils.tensors import from_uint8

    picture = load_rgb(path).picture
    if max(picture.size) > side:
        before = "x".join(map(str, picture.size))
        picture.thumbnail((side, side))
        after = "x".join(map(str, picture.size))
        click.echo(f"{path}: {before} is shrunk to {after} (--side {side})", err=True)
    return from_uint8(torch.from_numpy(numpy.array(picture)).permute(2, 0, 1))


def table(fits: list[tuple[Fit, Fit]]) -> str:
    """The fits as a Markdown table."""
    lines = [
        "| D | numbers | bi-lines, dB | rank | numbers | low rank, dB |",
        "|---|---|---|---|---|---|",
    ]
    for fit, matrix in fits:
        pairs = (f"{one.size} | {one.numbers} | {one.psnr:.2f}" for one in (fit, matrix))
        lines.append(f"| {' | '.join(pairs)} |")
    return "\n".join(lines)


def _row(fit: Fit) -> dict:
    """A fit for the record; the PSNR of a picture that is met exactly is None."""
    psnr = fit.psnr if fit.psnr < float("inf") else None
    return {"size": fit.size, "numbers": fit.numbers, "psnr": psnr}


def _write_strip(path: Path, target: torch.Tensor, fits: list[tuple[Fit, Fit]], name: str) -> None:
    from torch_utils.pictures import grid, png_with, save_png
    from torch_utils.tensors import to_uint8

    rows = [[target, *(pair[i].image for pair in fits)] for i in (0, 1)]
    images = [to_uint8(image) for row in rows for image in row]
    strip = grid(images, columns=len(fits) + 1)
    sizes = ",".join(str(lines.size) for lines, _ in fits)
    save_png(path, strip, {STRIP_MARK: name, "thickness": sizes}, ours=png_with(STRIP_MARK))


if __name__ == "__main__":
    main()
