"""Put a snapshot among the networks that come with the repository, with its scores in its card.

    python -m benchmarks.ship runs/long/network-snapshot-000320 flowers64 \\
        --data data/flowers64.zip --license other --dataset "Oxford 102 Flower"

The weights are stored in float16. The scores are those of the test split, which must not have been
used to choose the snapshot (`benchmarks.learning_curve` chooses by the training split).
"""

from __future__ import annotations

import datetime
import re
import tempfile
from pathlib import Path

import click
import torch

from benchmarks.harness import RECORD, machine
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign
from metrics.command import named_evaluations
from metrics.runner import evaluate, load_subject
from networks.hub_snapshots import DISCRIMINATOR
from networks.model_card import CardFields
from networks.shipped_networks import FOLDER
from networks.snapshot import Snapshot
from training.transfer import find_discriminator

METRICS = "kid_lite2,swd,motif,ppd,pr_lite2,dc_lite2,clip_s_small_heldout,clip_r_small,scale_x2"


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="ZIP|DIR")
@click.option("--license", "licence", required=True, help="Identifier of the Hugging Face Hub.")
@click.option("--dataset", "datasets", multiple=True, help="Name of training data; repeatable.")
@click.option(
    "--discriminator",
    "run",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RUN",
    help="Store the discriminator of this run, too, which --init-from NAME then takes.",
)
@click.option("--metrics", default=METRICS, show_default=True, metavar="A,B")
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the scores to this file.",
)
@report_user_errors
def main(
    source: Path,
    name: str,
    data: Path,
    licence: str,
    datasets: tuple[str, ...],
    run: Path | None,
    metrics: str,
    path: Path | None,
) -> None:
    """Store the snapshot SOURCE as the network NAME."""
    if not re.fullmatch("[a-z0-9_-]+", name):
        raise UserError(f"{name}: a network's name has small letters, digits, '-' and '_'")
    if path:
        refuse_foreign(path, RECORD)
    found = find_discriminator(run) if run else None
    if run and found is None:
        raise UserError(f"--discriminator {run}: holds no training-state-*.pt")
    if not run and (FOLDER / name / DISCRIMINATOR).exists():
        raise UserError(
            f"{FOLDER / name} holds a discriminator, which belongs to the old network; "
            f"give that of the new one by --discriminator RUN, or remove {DISCRIMINATOR} first"
        )
    evaluations = named_evaluations(metrics)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        # The float16 weights give the scores, and the hash of their file is in every record.
        folder = Path(temporary) / name
        Snapshot.from_pretrained(source).save_pretrained(folder, half=True)
        subject = load_subject(folder, torch.device("cpu"))
        scores = list(evaluate(subject, data, evaluations, cache_dir=data.parent / ".cache"))
        shipped = Snapshot.from_pretrained(folder)
    card = CardFields(license=licence, datasets=datasets, scores=scores, network=name)
    discriminator = found.tensors if found else None
    shipped.save_pretrained(FOLDER / name, card, half=True, discriminator=discriminator)
    if path:
        write_json(
            path,
            {
                "benchmark": "shipped network",
                "date": datetime.date.today().isoformat(),
                "network": name,
                "info": shipped.info,
                "rows": scores,
                "machine": machine(torch.device("cpu")),
            },
            ours=RECORD,
        )
    for score in scores:
        click.echo(f"{score['metric']:<22} {score['value']}")


if __name__ == "__main__":
    main()
