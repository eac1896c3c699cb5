"""Compare finished runs and write docs/comparison.md: scores, learning curves and sample grids.

    python -m benchmarks.comparison --data data/openmoji64.zip runs/compare/*

Every folder is a run of train.py. Runs of the same recipe differ in their seed. All runs must have
seen the same number of images of --data under the same settings; other runs are refused. Scores
that exist from an earlier call are not computed again. `comparison_scores` reads and checks the
runs, `comparison_page` writes the text, and this module draws curves and pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.comparison_page import TITLE, page
from benchmarks.comparison_scores import Run, by_recipe, check_comparable, read_run
from benchmarks.harness import RECORD
from datasets.text_image import TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import make_folder, read_json, write_text
from dnnlib.ownership import refuse_foreign, starting_with
from metrics.evaluations import evaluations_named
from metrics.pictures.image_sets import image_set
from networks.coordinates import View
from networks.sampling import iterate_images
from networks.snapshot import Snapshot
from torch_utils.pictures import grid, png_with, save_png
from torch_utils.tensors import to_uint8

METRICS = "kid_lite2,clip_s_small_heldout,clip_r_small,scale_x2,scale_x8,eqt_frac,eqr"
COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
    "#393b79",
    "#637939",
    "#843c39",
    "#7b4173",
)

WIDTH, HEIGHT, LEFT = 900, 420, 60  # of the drawing in pixels, and its left margin
# The start of every file of `curves_svg`, by which we recognise a file that may be replaced.
SVG_HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
    'font-family="sans-serif" font-size="12">\n'
    f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><text x="{LEFT}" y="18">'
)
IS_CURVES, IS_GRID = starting_with(SVG_HEAD), png_with("rows", "prompts")


def curves_svg(curves: dict[str, list[list[tuple[float, float]]]], title: str) -> str:
    """Learning curves as SVG, with a line for each curve and a colour for each name.

    curves: curves of points (kimg, value) by name, with at least one point. title: the metric.
    """
    bottom, top, right = 40, 30, 220  # margins in pixels
    width, height = WIDTH - LEFT - right, HEIGHT - top - bottom
    points = [point for group in curves.values() for curve in group for point in curve]
    longest = max(x for x, _ in points) or 1
    low, high = min(0, *(y for _, y in points)), max(y for _, y in points)
    high = high if high > low else low + 1

    def place(x: float, y: float) -> str:
        px = LEFT + x / longest * width
        py = HEIGHT - bottom - (y - low) / (high - low) * height
        return f"{px:.1f},{py:.1f}"

    # The axes.
    parts = [f"{SVG_HEAD}{title}</text>"]
    end = WIDTH - right
    for step in range(5):
        x, y = longest * step / 4, low + (high - low) * step / 4
        px, py = place(x, low).split(",")[0], place(0, y).split(",")[1]
        parts.append(
            f'<text x="{px}" y="{HEIGHT - 15}" text-anchor="middle">{x:.4g}</text>'
            f'<text x="{LEFT - 8}" y="{py}" text-anchor="end">{y:.3g}</text>'
            f'<line x1="{LEFT}" x2="{end}" y1="{py}" y2="{py}" stroke="#ddd"/>'
        )
    # The curves and the legend.
    for index, (name, group) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        for curve in group:
            line = " ".join(place(*point) for point in curve)
            parts.append(f'<polyline fill="none" stroke="{colour}" points="{line}"/>')
        y = top + 16 * index
        parts.append(
            f'<line x1="{end + 12}" x2="{end + 32}" y1="{y}" y2="{y}" '
            f'stroke="{colour}" stroke-width="3"/>'
            f'<text x="{end + 38}" y="{y + 4}">{name}</text>'
        )
    parts.append(f'<text x="{end / 2}" y="{HEIGHT - 2}">kimg</text></svg>')
    return "\n".join([*parts, ""])


def sample_grid(
    groups: dict[str, list[Run]], data: str, path: Path, device: torch.device, *, real: bool
) -> list[str]:
    """Write a grid of samples and return its prompts.

    Each row has samples of one recipe (its first run). With `real`, a row of real pictures is
    above them. All rows have the same prompts and latent seeds, one in each column.
    """
    dataset = TextImageDataset(data, split="test")
    chosen = image_set(dataset, num_images=10, seed=0)
    images = [dataset[item].image for item in chosen.items] if real else []
    for runs in groups.values():
        snapshot = Snapshot.from_pretrained(runs[0].folder)
        stream = iterate_images(
            snapshot.generator.to(device),
            snapshot.load_encoder(device),
            chosen.prompts,
            chosen.seeds,
            View.square(snapshot.resolution),
            device=device,
        )
        images += [to_uint8(sample.image) for sample in stream]
    save_png(
        path,
        grid(images, len(chosen)),
        {
            "rows": "\n".join((["real pictures"] if real else []) + [*groups]),
            "prompts": "\n".join(chosen.prompts),
        },
        ours=IS_GRID,
    )
    return list(chosen.prompts)


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--data",
    required=True,
    metavar="ZIP",
    help="The data set of the runs; its test split is scored.",
)
@click.option(
    "--metrics", default=METRICS, show_default=True, help="Evaluations; see calc_metrics.py list."
)
@click.option(
    "--num-images",
    type=int,
    help="Number of generated pictures.  [default: the evaluation's number]",
)
@click.option(
    "--curve",
    default="kid_lite2",
    show_default=True,
    help="Metric of the learning curves, which the runs computed in training.",
)
@click.option(
    "--pairs",
    default="",
    metavar="A:B,C:D",
    help="Recipes whose difference is stated with its confidence interval.",
)
@click.option(
    "--costs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Record of benchmarks.recipe_step, for the time of a training step.",
)
@click.option(
    "--trials",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Record of benchmarks.recipe_trials, for scores at equal processor time; may be repeated.",
)
@click.option(
    "--real/--no-real",
    default=True,
    show_default=True,
    help="Show real pictures in the grid; not for data whose licence forbids it.",
)
@click.option("--note", default="", help="A line for the page, such as date, hardware and commit.")
@click.option(
    "--out",
    default="docs/comparison.md",
    show_default=True,
    help="The page to write; its pictures go to the folder pictures beside it.",
)
@click.option("--device", default="cpu", show_default=True)
@report_user_errors
def main(
    folders: tuple[str, ...],
    data: str,
    metrics: str,
    num_images: int | None,
    curve: str,
    pairs: str,
    costs: Path | None,
    trials: tuple[Path, ...],
    real: bool,
    note: str,
    out: str,
    device: str,
) -> None:
    """Compare finished runs and write the page."""
    is_page, pictures = starting_with(TITLE), Path(out).parent / "pictures"
    curves_path, grid_path = pictures / "comparison-curves.svg", pictures / "comparison.png"
    for target, ours in ((Path(out), is_page), (curves_path, IS_CURVES), (grid_path, IS_GRID)):
        refuse_foreign(target, ours)
    names = [row.name for row in evaluations_named([name.strip() for name in metrics.split(",")])]
    evaluations_named([curve])
    compared = parse_pairs(
        pairs, {recipe_of(Path(folder)) for folder in folders} if pairs else set()
    )
    steps = read_record("--costs", costs, "recipe_step") if costs else None
    equal_time = [read_record("--trials", file, "recipe trials") for file in trials]
    torch_device = torch.device(device)
    runs = [
        read_run(Path(folder), data, names, num_images, curve, torch_device) for folder in folders
    ]
    check_comparable(runs)
    groups = by_recipe(runs)
    make_folder(pictures)
    if any(run.curve for run in runs):
        curves = {name: [run.curve for run in group] for name, group in groups.items()}
        write_text(curves_path, curves_svg(curves, curve), ours=IS_CURVES)
    else:
        click.echo(f"No run has a curve of {curve}, so the page has none.", err=True)
    prompts = sample_grid(groups, data, grid_path, torch_device, real=real)
    text = page(
        groups,
        names,
        curve,
        prompts,
        "pictures",
        note,
        pairs=compared,
        steps=steps,
        equal_time=equal_time,
        real=real,
    )
    write_text(Path(out), text, ours=is_page)
    click.echo(out)


def recipe_of(folder: Path) -> str:
    return read_json(folder / "training_options.json")["recipe"]


def read_record(flag: str, path: Path, benchmark: str) -> dict[str, Any]:
    """The record of a benchmark. Raises `UserError` if the file is something else."""
    if fault := RECORD(path):
        raise UserError(f"{flag}: {path} {fault}")
    record = read_json(path)
    if record["benchmark"] != benchmark:
        raise UserError(f"{flag}: {path} is a record of {record['benchmark']}, not of {benchmark}")
    return record


def parse_pairs(text: str, recipes: set[str]) -> list[tuple[str, str]]:
    """'A:B,C:D' -> [(A, B), (C, D)]. Raises `UserError` for a recipe without a run."""
    pairs = []
    for part in filter(None, text.replace(" ", "").split(",")):
        first, colon, second = part.partition(":")
        if not colon or {first, second} - recipes:
            raise UserError(f"--pairs: {part} is not RECIPE:RECIPE of {', '.join(sorted(recipes))}")
        pairs.append((first, second))
    return pairs


if __name__ == "__main__":
    main()
