"""From run folders to docs/comparison.md: one protocol for all, spread over seeds, learning curves, sample grids side by side.

`python -m benchmarks.comparison --data data/openmoji64.zip runs/compare/*`. Every folder is a run of train.py; runs of one recipe are its
seeds. Scores are kept in each folder (comparison.jsonl) by snapshot and protocol, so a second call computes what is new.
Runs must have seen the same data and the same number of images under the same `SETTINGS`: anything else is refused.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import append_json_line, make_folder, read_json, read_json_lines, write_text
from networks.coordinates import View
from networks.describe import describe
from networks.snapshot import Snapshot

METRICS = "kid_lite2,clip_s_small_heldout,clip_r_small,scale_x2"
SETTINGS = ("batch", "augment.mode", "mirror", "text.noise", "lr_decay", "ema.half_life_kimg", "ema.rampup", "precision", "text_encoder")
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
           "#393b79", "#637939", "#843c39", "#7b4173")


@dataclass(frozen=True)
class Run:
    """A finished run: what it was asked (settings: the fields that all must share), its curve of one metric, its scores by protocol."""

    folder: Path
    recipe: str
    seed: int
    images: int
    hours: float
    dataset_hash: str
    curve: list[tuple[float, float]]
    scores: dict[str, dict[str, Any]]
    settings: dict[str, Any]


def read_run(folder: Path, data: str, metrics: list[str], num: int | None, curve: str, device: torch.device) -> Run:
    """Read a run and score its newest snapshot where that is not done yet. Raises `UserError`."""
    options, ticks = read_json(folder / "training_options.json"), read_json_lines(folder / "stats.jsonl")
    if not ticks:
        raise UserError(f"{folder}: no stats.jsonl with ticks; it has not trained yet")
    snapshot = Snapshot.from_pretrained(folder)
    if round(snapshot.info["kimg"] * 1000) != ticks[-1]["images"]:
        raise UserError(f"{folder}: its newest snapshot is of {snapshot.info['kimg']} kimg, its log ends at {ticks[-1]['kimg']}; finish the run")
    points = [(record["images"] / 1000, record["value"]) for record in read_json_lines(folder / f"metric-{curve}.jsonl")
              if record["value"] is not None]
    return Run(folder, options["recipe"], options["seed"], ticks[-1]["images"], ticks[-1]["elapsed_s"] / 3600,
               snapshot.info["dataset_hash"], points, scores_of(folder, snapshot.sha256, data, metrics, num, device),
               {name: reduce(getitem, name.split("."), options) for name in SETTINGS})


def scores_of(folder: Path, sha256: str, data: str, metrics: list[str], num: int | None, device: torch.device) -> dict[str, dict]:
    from metrics.protocols import protocols_named
    from metrics.runner import evaluate, load_subject

    path = folder / "comparison.jsonl"
    asked = {row.name: row.with_overrides(num=num, seed=None, truncation=None).pictures.num_images for row in protocols_named(metrics)}

    def known() -> dict[str, dict]:
        return {record["metric"]: record for record in read_json_lines(path)
                if record["snapshot_sha256"] == sha256 and record["num_generated"] == asked.get(record["metric"])}

    missing = [name for name in asked if name not in known()]
    if missing:
        click.echo(f"{folder}: {', '.join(missing)}", err=True)
        for record in evaluate(load_subject(folder, device), data, protocols_named(missing), num=num, device=device,
                               cache_dir=Path(data).parent / ".cache"):
            append_json_line(path, record)
    return known()


def check_comparable(runs: list[Run]) -> None:
    """Raises `UserError` where two runs differ in data, images seen, settings, or in the measure of their scores."""
    first = runs[0]
    for run in runs[1:]:
        if run.dataset_hash != first.dataset_hash:
            raise UserError(f"{run.folder} was trained on other data than {first.folder}; compare runs of one data set")
        if run.images != first.images:
            raise UserError(f"{run.folder} has seen {run.images} images, {first.folder} {first.images}; train all to the same --kimg")
        for name, value in run.settings.items():
            if value != first.settings[name]:
                raise UserError(f"{run.folder} was trained with {name} {value}, {first.folder} with {first.settings[name]}; train all alike")
        for name, record in run.scores.items():
            if record["protocol"] != first.scores[name]["protocol"] or record["dataset"] != first.scores[name]["dataset"]:
                raise UserError(f"{run.folder}: {name} was measured otherwise than in {first.folder}; delete its comparison.jsonl")
        if any(run.recipe == other.recipe and run.seed == other.seed for other in runs if other is not run):
            raise UserError(f"{run.folder}: another folder holds the same recipe and seed {run.seed}")


def by_recipe(runs: list[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.recipe, run.seed)):
        groups.setdefault(run.recipe, []).append(run)
    return groups


def spread(values: list[float | None]) -> str:
    """'mean (least to most)' over the seeds; a dash where nothing could be measured."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    text = f"{statistics.mean(known):.4g}"
    return text if len(known) == 1 else f"{text} ({min(known):.4g} to {max(known):.4g})"


def score_table(groups: dict[str, list[Run]], metrics: list[str]) -> list[str]:
    lines = ["| Recipe | Seeds | G, M | GMAC | " + " | ".join(f"`{name}`" for name in metrics) + " | Hours |",
             "|---|---|---|---|" + "---|" * (len(metrics) + 1)]
    for name, runs in groups.items():
        snapshot = Snapshot.from_pretrained(runs[0].folder)
        counts = describe(snapshot.generator.config, View.square(snapshot.resolution))
        cells = [spread([run.scores[metric]["value"] for run in runs]) for metric in metrics]
        lines.append(f"| `{name}` | {', '.join(str(run.seed) for run in runs)} | {counts['params'] / 1e6:.2f} | {counts['macs'] / 1e9:.2f} | "
                     + " | ".join(cells) + f" | {spread([run.hours for run in runs])} |")
    return lines


def ranking(groups: dict[str, list[Run]], metrics: list[str]) -> list[str]:
    """One line a metric: recipes from best to worst by the mean over seeds, where every seed has a value."""
    lines = []
    for metric in metrics:
        values = {name: [run.scores[metric]["value"] for run in runs] for name, runs in groups.items()}
        means = {name: statistics.mean(found) for name, found in values.items() if None not in found}
        order = sorted(means, key=means.get, reverse=not metric.startswith(("kid", "tile")))
        lines.append(f"- `{metric}`: " + (", ".join(f"{name} {means[name]:.4g}" for name in order) or "nothing measured"))
    return lines


def curves_svg(groups: dict[str, list[Run]], title: str) -> str:
    """Learning curves as SVG: a thin line a run, one colour a recipe."""
    width, height, left, bottom, top, right = 900, 420, 60, 40, 30, 220
    points = [point for runs in groups.values() for run in runs for point in run.curve]
    if not points:
        raise UserError("no run has a learning curve; train with --metrics, or name another one by --curve")
    most_x, low, high = max(x for x, _ in points) or 1, min(0, *(y for _, y in points)), max(y for _, y in points)
    high = high if high > low else low + 1

    def place(x: float, y: float) -> str:
        return f"{left + x / most_x * (width - left - right):.1f},{height - bottom - (y - low) / (high - low) * (height - bottom - top):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="18">{title}</text>']
    for step in range(5):
        x, y = most_x * step / 4, low + (high - low) * step / 4
        px, py = place(x, low).split(",")[0], place(0, y).split(",")[1]
        parts.append(f'<text x="{px}" y="{height - 15}" text-anchor="middle">{x:.4g}</text><text x="{left - 8}" y="{py}" text-anchor="end">{y:.3g}</text>'
                     f'<line x1="{left}" x2="{width - right}" y1="{py}" y2="{py}" stroke="#ddd"/>')
    for index, (name, runs) in enumerate(groups.items()):
        colour = COLOURS[index % len(COLOURS)]
        for run in runs:
            parts.append(f'<polyline fill="none" stroke="{colour}" points="{" ".join(place(*point) for point in run.curve)}"/>')
        y = top + 16 * index
        parts.append(f'<line x1="{width - right + 12}" x2="{width - right + 32}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>'
                     f'<text x="{width - right + 38}" y="{y + 4}">{name}</text>')
    return "\n".join([*parts, f'<text x="{(width - right) / 2}" y="{height - 2}">kimg</text></svg>', ""])


def sample_grid(groups: dict[str, list[Run]], data: str, path: Path, device: torch.device) -> list[str]:
    """A row a recipe (its first seed), a column a prompt, the real pictures on top; same prompts and latents. Returns the prompts."""
    from datasets.text_image import TextImageDataset
    from metrics.image_sets import image_set
    from networks.sampling import iterate_images
    from torch_utils.pictures import grid, save_png
    from torch_utils.tensors import to_uint8

    dataset = TextImageDataset(data, split="test")
    chosen = image_set(dataset, num_images=10, seed=0)
    images = [dataset[item].image for item in chosen.items]
    for runs in groups.values():
        snapshot = Snapshot.from_pretrained(runs[0].folder)
        stream = iterate_images(snapshot.generator.to(device), snapshot.load_encoder(device), chosen.prompts, chosen.seeds,
                                View.square(snapshot.resolution), device=device)
        images += [to_uint8(sample.image) for sample in stream]
    save_png(path, grid(images, len(chosen)), {"rows": "\n".join(["real pictures", *groups]), "prompts": "\n".join(chosen.prompts)})
    return list(chosen.prompts)


def page(groups: dict[str, list[Run]], metrics: list[str], curve: str, prompts: list[str], pictures: str, note: str) -> str:
    runs = [run for group in groups.values() for run in group]
    record = runs[0].scores[metrics[0]]
    pieces = [
        "# Systems side by side", "",
        f"Made by `python -m benchmarks.comparison` from {len(runs)} run folders. All saw {runs[0].images:,} images of {record['dataset']['name']} "
        f"(`{record['dataset']['content_hash'][:12]}`) in the same loop; all are scored by the same protocols ([evaluation](evaluation.md)), "
        f"{record['num_generated']} pictures for `{metrics[0]}`. A cell is the mean over seeds, with the least and the greatest beside it. "
        "A dash: the system cannot make what the protocol asks for (one size only).", "",
        "All trained with " + ", ".join(f"`{name}` {value}" for name, value in runs[0].settings.items()) + "; what a recipe is beside that, "
        "[configs](configs.md) says.", "", *([note, ""] if note else []),
        *score_table(groups, metrics), "", "## From best to worst", "", *ranking(groups, metrics), "",
        "Read differences that lie within the spread over seeds as nothing.", "",
        "## Learning curves", "", f"![`{curve}` over kimg]({pictures}/comparison-curves.svg)", "",
        "## Pictures", "", f"![Sample grids]({pictures}/comparison.png)", "",
        "Rows: real pictures, then " + ", ".join(f"`{name}`" for name in groups) + " (first seed). Columns, the same latent in a column: "
        + "; ".join(f'"{prompt}"' for prompt in prompts) + ".", ""]
    return "\n".join(pieces)


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="RUN...")
@click.option("--data", required=True, metavar="ZIP", help="The data set of the runs; its test split is scored.")
@click.option("--metrics", default=METRICS, show_default=True, help="Protocols; see calc_metrics.py list.")
@click.option("--num-images", type=int, help="Generated pictures a protocol.  [default: the protocol's own]")
@click.option("--curve", default="kid_lite2", show_default=True, help="Metric that the runs computed while training.")
@click.option("--note", default="", help="A line on these runs for the page: date, hardware, commit.")
@click.option("--out", default="docs/comparison.md", show_default=True, help="The page; pictures go to pictures/ beside it.")
@click.option("--device", default="cpu", show_default=True)
@report_user_errors
def main(folders: tuple[str, ...], data: str, metrics: str, num_images: int | None, curve: str, note: str, out: str, device: str) -> None:
    """Compare finished runs and write the page."""
    from metrics.protocols import protocols_named

    names = [row.name for row in protocols_named([name.strip() for name in metrics.split(",")])]
    where = torch.device(device)
    runs = [read_run(Path(folder), data, names, num_images, curve, where) for folder in folders]
    check_comparable(runs)
    groups, pictures = by_recipe(runs), Path(out).parent / "pictures"
    make_folder(pictures)
    curves = curves_svg(groups, curve)
    prompts = sample_grid(groups, data, pictures / "comparison.png", where)
    write_text(pictures / "comparison-curves.svg", curves)
    write_text(Path(out), page(groups, names, curve, prompts, "pictures", note))
    click.echo(out)


if __name__ == "__main__":
    main()
