"""Score all snapshots of a run, and name the one to keep.

    python -m benchmarks.learning_curve runs/flowers64 --data data/flowers64.zip --json FILE

Captions and real pictures are those of the training split, so the choice of a snapshot does not
see the test split. The best snapshot is nearest to the best values of the metrics of `--choose`,
with distances in units of the deviation over seeds.
The record grows by a row for each snapshot, and a second call computes what is missing.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.comparison_scores import detector_of
from benchmarks.harness import RECORD, machine
from datasets.text_image import TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import read_json, write_json
from dnnlib.ownership import refuse_foreign
from metrics.command import named_evaluations
from metrics.evaluations import PROTOCOLS_VERSION, badness
from metrics.measures.base import Evaluation
from metrics.pictures.specifications import Split
from metrics.runner import evaluate, load_subject
from networks.snapshot import Snapshot
from networks.snapshot_folders import snapshots_in

METRICS = "kid_lite2,swd,motif,ppd,clip_s_small_heldout"
# The deviations over seeds are those of docs/comparison.md.
CHOOSE = "swd:5.1,clip_s_small_heldout:0.0081"


def on_split(evaluation: Evaluation, split: Split) -> Evaluation:
    """The evaluation with captions and real pictures of `split`."""
    return replace(
        evaluation,
        pictures=replace(evaluation.pictures, split=split),
        reference=replace(evaluation.reference, split=split),
    )


def best(rows: Sequence[dict[str, Any]], scatter: Mapping[str, float]) -> dict[str, Any]:
    """The row that is nearest to the best values of all metrics.

    scatter: the standard deviation over seeds of each metric that counts. The distances of a row
    from the best value of each metric, in units of this deviation, are added up.
    """

    def cost(metric: str, row: dict[str, Any]) -> float:
        value = row["scores"].get(metric)  # None where pictures are not finite
        return math.inf if value is None else badness(metric, value)

    least = {metric: min(cost(metric, row) for row in rows) for metric in scatter}
    return min(
        rows,
        key=lambda row: sum((cost(m, row) - least[m]) / scatter[m] for m in scatter),
    )


def parse_scatter(text: str) -> dict[str, float]:
    """'A:1.5,B:0.1' -> {A: 1.5, B: 0.1}. Raises `UserError` for anything else."""
    found = {}
    for part in text.split(","):
        name, _, deviation = part.strip().partition(":")
        try:
            found[name] = float(deviation)
        except ValueError:
            found[name] = math.nan
        if not 0 < found[name] < math.inf:
            raise UserError(f"--choose: {part} is not NAME:DEVIATION with a positive number")
    return found


def scored(
    snapshot: Snapshot,
    folder: Path,
    evaluations: Sequence[Evaluation],
    data: Path,
    num: int,
    cache: Path,
) -> dict[str, Any]:
    """The row of a snapshot folder: its kimg, the hash of its weights, and its scores."""
    scores = {
        record["metric"]: record["value"]
        for record in evaluate(
            load_subject(folder, torch.device("cpu")), data, evaluations, num=num, cache_dir=cache
        )
    }
    return {
        "kimg": snapshot.info.get("kimg", 0),
        "snapshot_sha256": snapshot.sha256,
        "scores": scores,
    }


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="ZIP|DIR",
    help="The data set of the training.",
)
@click.option(
    "--metrics", default=METRICS, show_default=True, metavar="A,B", help="Evaluations to compute."
)
@click.option(
    "--choose",
    default=CHOOSE,
    show_default=True,
    metavar="A:X,B:Y",
    help="Evaluations that choose the best snapshot, with their deviations over seeds.",
)
@click.option(
    "--num-images", "num", default=500, show_default=True, help="Generated pictures a snapshot."
)
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    default="train",
    show_default=True,
    help="Split of the captions and of the real pictures.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The record to write or to go on with.",
)
@report_user_errors
def main(
    run: Path, data: Path, metrics: str, choose: str, num: int, split: Split, path: Path
) -> None:
    """Score the snapshots of the folder RUN in their order."""
    refuse_foreign(path, RECORD)
    torch.set_num_threads(1)
    evaluations = [on_split(one, split) for one in named_evaluations(metrics)]
    deciding = parse_scatter(choose)
    if unknown := deciding.keys() - {one.name for one in evaluations}:
        raise UserError(f"--choose: {', '.join(sorted(unknown))} is not among --metrics")
    folders = snapshots_in(run)
    if not folders:
        raise UserError(f"{run}: has no snapshots; give the folder of a run")
    dataset = TextImageDataset(data, split=split)
    info = Snapshot.from_pretrained(folders[0]).info
    settings = {
        "recipe": info.get("recipe", ""),
        "seed": info.get("seed", 0),
        "data": dataset.name,
        "content_hash": dataset.content_hash,
        "protocols": PROTOCOLS_VERSION,
        "split": split,
        "num_images": num,
        "metrics": ",".join(one.name for one in evaluations),
        "detectors": {one.name: detector_of(one.name) for one in evaluations},
    }
    rows: list[dict[str, Any]] = []
    if path.exists():
        earlier = read_json(path)
        if changed := [name for name in settings if earlier.get(name) != settings[name]]:
            raise UserError(
                f"{path} was made with another value of {', '.join(changed)}; name another file"
            )
        rows = earlier["rows"]

    def write() -> None:
        record = {
            "benchmark": "learning curve",
            "date": datetime.date.today().isoformat(),
            **settings,
            "choose": choose,
            "best_kimg": best(rows, deciding)["kimg"],
            "rows": rows,
            "machine": machine(torch.device("cpu")),
        }
        write_json(path, record, ours=RECORD)

    known = {row["snapshot_sha256"] for row in rows}
    for folder in folders:
        snapshot = Snapshot.from_pretrained(folder)
        if snapshot.sha256 in known:
            continue
        row = scored(snapshot, folder, evaluations, data, num, data.parent / ".cache")
        click.echo(row, err=True)
        rows = sorted([*rows, row], key=lambda row: row["kimg"])
        write()
    write()
    click.echo(f"best: {best(rows, deciding)}")


if __name__ == "__main__":
    main()
