"""Score snapshots and folders of pictures. Records go to stdout as JSON, progress to stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from dnnlib.console import report_user_errors
from dnnlib.device_options import ops_option
from dnnlib.errors import UserError
from dnnlib.version import VERSION
from metrics.command import (
    METRICS,
    NUM,
    SIZE,
    TRUNC,
    Output,
    check_files,
    chosen_cache,
    chosen_device,
    computing,
    folder_defaults,
    labels_of_data,
    local_weights,
    named_evaluation,
    named_evaluations,
    named_sources,
    on_device,
    seed_blocks,
    served_defaults,
    weight_files,
)
from networks.sampling_options import SAMPLES
from networks.shipped_networks import NETWORK_HELP

if TYPE_CHECKING:
    from datasets.stylegan import LabelCaptions
    from metrics.pictures.subject import Subject


@click.group()
@click.version_option(VERSION, prog_name="EIDGAN")
def main() -> None:
    """Score snapshots and folders of pictures by named, frozen evaluations (docs/evaluation.md)."""


@main.command()
@click.option(
    "--network",
    metavar="RUN|SNAPSHOT",
    help=NETWORK_HELP,
)
@click.option(
    "--images",
    metavar="DIR",
    help="Instead of a network: a folder of pictures from any model; --num-images takes a "
    "random draw of them.",
)
@click.option(
    "--data", metavar="ZIP|DIR", help="Data set whose captions and real pictures are used."
)
@click.option(
    "--ref",
    metavar="NPZ|DIR|ZIP",
    help="Real pictures instead of those of --data: a file of `ref`, a folder, a data set, or "
    "another tool's .npz with mu and sigma.",
)
@click.option(
    "--data-large",
    metavar="ZIP|DIR",
    help="Data set of larger real pictures, for detail_*, pfid* and *_extrapolated*.",
)
@SIZE
@SAMPLES
@METRICS
@NUM
@click.option(
    "--seed",
    metavar="LIST",
    help="Blocks of captions and latents, such as 0-2.  [default: the evaluation's block]",
)
@TRUNC
@on_device
@ops_option
@local_weights
@click.option(
    "--cache",
    default="data/.cache",
    show_default=True,
    metavar="DIR",
    help="Folder that keeps features of real pictures; the user's cache folder if it cannot be "
    "written.",
)
@click.option("--out", metavar="FILE.jsonl", help="Also append the records to this file.")
@click.option(
    "--nearest-sheet",
    metavar="FILE.png",
    help="Sheet of nearest_train_lite2: the generated pictures that are nearest to training "
    "pictures, each beside its nearest training picture.",
)
@report_user_errors
@labels_of_data
def calc(
    network: str | None,
    images: str | None,
    data: str | None,
    ref: str | None,
    data_large: str | None,
    size: int | None,
    samples: int | None,
    metrics: str,
    num: int | None,
    seed: str | None,
    trunc: float | None,
    device: str,
    batch_gpu: int,
    ops: str,
    weights: tuple[str, ...],
    cache: str,
    out: str | None,
    nearest_sheet: str | None,
    labels: LabelCaptions,
) -> None:
    """Compute scores and print each as a JSON line. Under torchrun, write --num-images in full.

    If an evaluation cannot be computed, stderr says what is missing, the other evaluations are
    computed, and the exit code is 1. With --network and without --metrics, the evaluations that
    --data does not suffice for are left out, and stderr names them. With --images, those that a
    network must draw for are.

    \b
    Examples:
      python calc_metrics.py calc --network runs/x --data coco256.zip --metrics clip_s --seed 0-2
      python calc_metrics.py calc --images pictures --ref coco256.npz --metrics fid30k_coco256
    """
    # Check the options before anything heavy is imported.
    evaluations, blocks = named_evaluations(metrics), seed_blocks(seed)
    _check_choice(network, images, data, ref, {seed, trunc, size, samples} != {None})

    from metrics.pictures.nearest_sheet import asked_sheet
    from metrics.runner import evaluate

    torch_device, output = chosen_device(device, ops), Output(out)
    sources = named_sources(data, ref, data_large, weights, labels)
    is_drawn = any(one.measure.draws_sheet for one in evaluations)
    sheet = asked_sheet(nearest_sheet, is_drawn, ref, len(blocks))

    # Score each block of captions and latents.
    with computing(torch_device, batch_gpu) as compute:
        if _is_default("metrics"):
            evaluations = (
                served_defaults(evaluations, sources) if network else folder_defaults(evaluations)
            )
        common: dict[str, Any] = {
            "num": num,
            "truncation": trunc,
            "device": torch_device,
            "batch_size": batch_gpu,
            "progress": compute.progress,
            "cache_dir": chosen_cache(cache),
            "on_refusal": output.refuse,
            "on_cut": output.cut,
            "nearest_sheet": sheet,
        }
        settings = {"device": torch_device, "size": size, "samples": samples}
        subject = _subject(network, images, **settings)
        for block in blocks:
            for record in evaluate(subject, sources, evaluations, seed=block, **common):
                output.write(record)
        output.sum_up(evaluations)
    if output.refused:
        sys.exit(1)


@main.command()
@click.option("--data", required=True, metavar="ZIP|DIR", help="Data set, or a folder of pictures.")
@click.option(
    "--metrics",
    required=True,
    metavar="A,B,...",
    help="Evaluations whose scores will be computed against these pictures.",
)
@click.option(
    "--dest",
    required=True,
    metavar="FILE.npz",
    help="File to write; an existing one is replaced only when the new one is complete.",
)
@on_device
@local_weights
@report_user_errors
def ref(
    data: str, metrics: str, dest: str, device: str, batch_gpu: int, weights: tuple[str, ...]
) -> None:
    """Compute statistics of real pictures. `calc --ref` reads them where the pictures are not
    available.

    The file holds mean and covariance in float64 (ddof 1), or features if an evaluation needs them,
    for each detector with its weights and resize filter.

    Example: python calc_metrics.py ref --data coco256.zip --metrics fid30k_coco256 --dest coco.npz
    """
    evaluations = named_evaluations(metrics)
    if Path(dest).suffix != ".npz":
        raise UserError(f"--dest {dest}: the name must end in .npz")
    check_files(Path(data))

    from metrics.make_reference import make_reference
    from torch_utils.distributed import is_main

    with computing(chosen_device(device), batch_gpu) as compute:
        summary = make_reference(
            Path(data), evaluations, Path(dest), compute, weight_files(weights)
        )
        if is_main():
            print(json.dumps(summary, ensure_ascii=False))


@main.command()
@click.option(
    "--network",
    required=True,
    metavar="RUN|SNAPSHOT",
    help=NETWORK_HELP,
)
@click.option("--data", required=True, metavar="ZIP|DIR", help="Data set whose captions are used.")
@click.option(
    "--metrics",
    "metric",
    default="fid10k",
    show_default=True,
    metavar="NAME",
    help="Evaluation whose pictures are made.",
)
@click.option(
    "--outdir", required=True, metavar="DIR", help="Folder for the pictures and their captions."
)
@NUM
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Block of captions and latents.  [default: the evaluation's block]",
)
@TRUNC
@on_device
@ops_option
@report_user_errors
@labels_of_data
def gen(
    network: str,
    data: str,
    metric: str,
    outdir: str,
    num: int | None,
    seed: int | None,
    trunc: float | None,
    device: str,
    batch_gpu: int,
    ops: str,
    labels: LabelCaptions,
) -> None:
    """Write the pictures that an evaluation scores as PNG files, for other tools.

    `calc --images` computes the same scores from them. captions.jsonl holds the captions, and
    pictures.json the origin of each picture.
    """
    evaluation = named_evaluation(metric).with_overrides(num=num, seed=seed, truncation=trunc)
    check_files(Path(data))

    from metrics.pictures.sources import Sources
    from metrics.runner import load_subject
    from metrics.write_pictures import write_pictures
    from torch_utils.distributed import is_main

    torch_device = chosen_device(device, ops)
    sources = Sources(data=Path(data), labels=labels)
    with computing(torch_device, batch_gpu) as compute:
        subject = load_subject(network, torch_device)
        write_pictures(subject, sources, evaluation, Path(outdir), compute)
        if is_main():
            num_images = evaluation.pictures.num_images
            summary = {"outdir": outdir, "num_images": num_images, "protocol": evaluation.name}
            print(json.dumps(summary))


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]RUN|FILE.jsonl ...")
@click.option(
    "--metrics",
    default="",
    metavar="A,B,...",
    help="Columns of the table.  [default: all metrics of the runs]",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["markdown", "latex", "json"]),
    default="markdown",
    show_default=True,
)
@report_user_errors
def compare(runs: tuple[str, ...], metrics: str, style: str) -> None:
    """Print a table of runs: mean and standard deviation over the seed blocks of each evaluation.

    RUN is a run folder or a file of `calc --out`; those with one NAME are one row. The score of the
    most pictures counts, and the newest of those, with the other seed blocks of the same network.
    If scores of one column were measured under different conditions, stderr and a note below the
    table name these conditions, and no score of the column is marked as the best.
    """
    from metrics.evaluations import evaluations_named
    from metrics.report import differences, latex, markdown, read_runs, tabulate

    names = [name.strip() for name in metrics.split(",") if name.strip()]
    if names:
        evaluations_named(names)
    table = tabulate(read_runs(runs), names)
    notes = differences(table)
    for line in notes.values():
        print(f"Warning: {line}", file=sys.stderr)
    if style == "json":
        cells = {
            label: {
                metric: {
                    "mean": cell.mean,
                    "spread": cell.spread,
                    "num_blocks": cell.num_blocks,
                    "differs": notes.get((label, metric)),
                }
                for metric, cell in row.items()
            }
            for label, row in table.items()
        }
        print(json.dumps(cells, ensure_ascii=False))
    else:
        print(latex(table) if style == "latex" else markdown(table))


@main.command("list")
def list_evaluations() -> None:
    """List the evaluations with their number of pictures, split and meaning."""
    from metrics.evaluations import EVALUATIONS

    width = max(map(len, EVALUATIONS))
    for row in EVALUATIONS.values():
        pictures = row.pictures
        facts = f"{pictures.num_images:>5} {pictures.split:<5}"
        print(f"{row.name:<{width}}  {facts}  {row.summary}")


def _check_choice(
    network: str | None, images: str | None, data: str | None, ref: str | None, drawing: bool
) -> None:
    """Raise an error if options of `calc` exclude each other or one is missing.

    drawing: whether --seed, --trunc, --size or --samples is given.
    """
    if (network is None) == (images is None):
        raise click.UsageError("give either --network or --images")
    if images is not None and drawing:
        raise UserError(
            "--seed, --trunc, --size and --samples choose what a network makes; they do not apply "
            "to a folder of pictures: score one folder a seed block, and give them to compare as "
            "NAME=FILE"
        )
    if data is None and (network is not None or ref is None):
        raise click.UsageError(
            "Missing option '--data': the data set whose captions and real pictures are used"
        )


def _subject(network: str | None, images: str | None, **settings: Any) -> Subject:
    """The pictures to score: those of a network, or those of the folder `images`.

    settings: of `load_subject`.
    """
    from metrics.pictures.folder_subject import FolderSubject
    from metrics.pictures.picture_folder import PictureFolder
    from metrics.runner import load_subject

    if network:
        return load_subject(network, **settings)
    return FolderSubject(PictureFolder(images or ""))


def _is_default(option: str) -> bool:
    """Whether the user did not give this option."""
    context = click.get_current_context()
    return context.get_parameter_source(option) is ParameterSource.DEFAULT


if __name__ == "__main__":
    main()
