"""Measure how well EfficientNet-lite2 tells real pictures from enlarged ones, by its input size.

    python -m benchmarks.detail_power --data data/openmoji256.zip --factor 4 --json FILE

Training pictures are shrunk by area means and enlarged again by the bicubic filter of `detail_*`.
The KID of the pictures and that of the enlarged ones, both against test pictures, is computed with
the network's input at several sizes. A score of detail should rise much by the enlargement,
compared with what it is for real pictures. No generator is part of this measurement.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.harness import RECORD, machine
from benchmarks.measure_floors import drawn
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign
from metrics.arithmetic.similarity import enlarge, shrink, to_unit
from metrics.measures.kid import kid
from networks.pretrained.efficientnet import EfficientNetFeatures, efficientnet_features
from torch_utils.tensors import from_uint8, to_uint8

DRAWS = 3  # disjoint sets of training pictures
BATCH = 8


def blurred(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Pictures uint8 [N, 3, H, W], shrunk by a factor and enlarged again."""
    return torch.cat(
        [
            to_uint8((enlarge(shrink(to_unit(from_uint8(part)), factor), factor) * 2 - 1).float())
            for part in images.split(BATCH)
        ]
    )


@torch.no_grad()
def features(network: EfficientNetFeatures, images: torch.Tensor) -> np.ndarray:
    """Pictures uint8 [N, 3, H, W] -> pooled features float32 [N, 1280]."""
    return torch.cat([network(from_uint8(part)) for part in images.split(BATCH)]).numpy()


def compared(
    input_px: int,
    real: torch.Tensor,
    draws: Sequence[torch.Tensor],
    enlargements: Sequence[torch.Tensor],
) -> dict[str, float | None]:
    """The record's row of one input size.

    kid_real: mean KID of the draws against `real`. gap: by how much their enlargement raises it.
    """
    network, started = efficientnet_features("lite2", input_px), time.process_time()
    reference = features(network, real)
    seconds = (time.process_time() - started) / len(real)
    sharp = [kid(reference, features(network, images)) for images in draws]
    enlarged = [kid(reference, features(network, images)) for images in enlargements]
    gaps = [blur - own for own, blur in zip(sharp, enlarged, strict=True)]
    own = statistics.mean(sharp)
    return {
        "input_px": input_px,
        "kid_real": round(own, 5),
        "gap": round(statistics.mean(gaps), 5),
        "gap_sd": round(statistics.stdev(gaps), 5),
        "gap_over_real": round(statistics.mean(gaps) / own, 3) if own > 0 else None,
        "cpu_seconds_a_picture": round(seconds, 4),
    }


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="ZIP|DIR")
@click.option("--factor", type=click.Choice(["2", "4", "8"]), default="2", show_default=True)
@click.option(
    "--input-px",
    "inputs",
    type=click.IntRange(min=32),
    multiple=True,
    default=(128, 192, 256),
    show_default=True,
    help="Input size of the network; repeatable.",
)
@click.option("--num-images", "num", default=200, show_default=True, help="Pictures of a draw.")
@click.option("--json", "path", type=click.Path(path_type=Path), metavar="FILE", help="Record.")
@report_user_errors
def main(data: Path, factor: str, inputs: tuple[int, ...], num: int, path: Path | None) -> None:
    """Compare real pictures and enlarged ones at several input sizes of the network."""
    if path:
        refuse_foreign(path, RECORD)
    torch.set_num_threads(1)
    test, train = drawn(data, "test", DRAWS * num), drawn(data, "train", DRAWS * num)
    if min(len(test), len(train) // DRAWS) < 2:
        raise UserError(f"{data}: needs 2 test and {2 * DRAWS} training pictures")
    real, images = (torch.stack([record.image for record in records]) for records in (test, train))
    if real.shape[-1] % int(factor) or real.shape[-2] % int(factor):
        raise UserError(f"{data}: its sides are no multiples of --factor {factor}")
    draws, rows = images.chunk(DRAWS), []
    enlargements = [blurred(part, int(factor)) for part in draws]
    for input_px in inputs:
        rows.append(compared(input_px, real, draws, enlargements))
        click.echo(rows[-1], err=True)
    if path:
        write_json(
            path,
            {
                "benchmark": "power of detail",
                "date": datetime.date.today().isoformat(),
                "data": data.stem,
                "side": real.shape[-1],
                "factor": int(factor),
                "num_real": len(real),
                "draws": DRAWS,
                "num_images": len(images) // DRAWS,
                "rows": rows,
                "machine": machine(torch.device("cpu")),
            },
            ours=RECORD,
        )


if __name__ == "__main__":
    main()
