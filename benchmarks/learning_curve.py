"""Score all snapshots of a run, and name the one to keep.

    python -m benchmarks.learning_curve runs/flowers64 --data data/flowers64.zip --json FILE

Captions and real pictures are those of the training split, so the choice of a snapshot does not
see the test split. The best snapshot has the least sum of its ranks in the metrics of `--choose`.
The record grows by a row for each snapshot, and a second call computes what is missing.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.harness import RECORD, machine
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import read_json, sha256_of, write_json
from dnnlib.ownership import refuse_foreign
from metrics.evaluations import badness, evaluations_named
from metrics.measures.base import Evaluation
from metrics.pictures.specifications import Split
from metrics.runner import evaluate, load_subject

METRICS = "kid_lite2,swd,motif,ppd,clip_s_small_heldout"
CHOOSE = "swd,clip_s_small_heldout"


def on_split(evaluation: Evaluation, split: Split) -> Evaluation:
    """The evaluation with captions and real pictures of `split`."""
    return replace(
        evaluation,
        pictures=replace(evaluation.pictures, split=split),
        reference=replace(evaluation.reference, split=split),
    )


def best(rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> dict[str, Any]:
    """The row with the least sum of ranks; of equal sums, the one that is best in `metrics[0]`."""

    def rank(metric: str, row: dict[str, Any]) -> int:
        own = badness(metric, row["scores"][metric])
        return sum(badness(metric, other["scores"][metric]) < own for other in rows)

    return min(rows, key=lambda row: (sum(rank(m, row) for m in metrics), rank(metrics[0], row)))


def scored(
    folder: Path, evaluations: Sequence[Evaluation], data: Path, num: int, cache: Path
) -> dict[str, Any]:
    """The row of a snapshot folder: its kimg, the hash of its weights, and its scores."""
    scores = {
        record["metric"]: record["value"]
        for record in evaluate(
            load_subject(folder, torch.device("cpu")), data, evaluations, num=num, cache_dir=cache
        )
    }
    return {
        "kimg": read_json(folder / "config.json")["info"]["kimg"],
        "snapshot_sha256": sha256_of(folder / "model.safetensors"),
        "scores": scores,
    }


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="ZIP|DIR")
@click.option("--metrics", default=METRICS, show_default=True, metavar="A,B")
@click.option("--choose", default=CHOOSE, show_default=True, metavar="A,B")
@click.option(
    "--num-images", "num", default=500, show_default=True, help="Generated pictures a snapshot."
)
@click.option("--split", type=click.Choice(["train", "test"]), default="train", show_default=True)
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
    names, deciding = metrics.split(","), choose.split(",")
    if unknown := set(deciding) - set(names):
        raise UserError(f"--choose: {', '.join(sorted(unknown))} is not among --metrics")
    evaluations = [on_split(one, split) for one in evaluations_named(names)]
    folders = sorted(file.parent for file in run.glob("network-snapshot-*/config.json"))
    if not folders:
        raise UserError(f"{run}: has no snapshots; give the folder of a run")
    settings = {"data": data.stem, "split": split, "num_images": num, "metrics": metrics}
    rows: list[dict[str, Any]] = []
    if path.exists():
        earlier = read_json(path)
        if changed := [name for name in settings if earlier.get(name) != settings[name]]:
            raise UserError(
                f"{path}: was made with another {', '.join(changed)}; name another file"
            )
        rows = earlier["rows"]
    known = {row["snapshot_sha256"] for row in rows}
    for folder in folders:
        if sha256_of(folder / "model.safetensors") in known:
            continue
        row = scored(folder, evaluations, data, num, data.parent / ".cache")
        click.echo(row, err=True)
        rows = sorted([*rows, row], key=lambda row: row["kimg"])
        write_json(
            path,
            {
                "benchmark": "learning curve",
                "date": datetime.date.today().isoformat(),
                "recipe": read_json(folder / "config.json")["info"].get("recipe", ""),
                **settings,
                "choose": choose,
                "best_kimg": best(rows, deciding)["kimg"],
                "rows": rows,
                "machine": machine(torch.device("cpu")),
            },
            ours=RECORD,
        )
    click.echo(f"best: {best(rows, deciding)}")


if __name__ == "__main__":
    main()
