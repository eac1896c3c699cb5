"""Is a projected picture closer to the truth than an enlargement of the same small picture?

    python -m benchmarks.projection_detail --network runs/x --data large.zip --json FILE

`--data` holds pictures of more pixels than the network's S, for example SVG renders at 512 px or
photographs. Each one, the truth, is brought down to S. From that small picture come three pictures
of the large size: its projection (`project.py`) drawn at that size, its enlargement by Lanczos, and
its bicubic enlargement. Their distances from the truth are

- PSNR in dB, and the distance of feature maps at four scales, as in `networks/projection.py`: of
  EfficientNet-lite0, which the search optimises, and of lite2, which it does not see;
- KID on lite2 features (`kid_lite2`) against all pictures of the split.

Means over the pictures; `wins` is the share of pictures that are closer to the truth than their
Lanczos enlargement. `seconds` is processor time of one projection.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from benchmarks.harness import RECORD, machine
from datasets.text_image import TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign
from metrics.arithmetic.similarity import psnr
from metrics.features.detectors import load_detector
from metrics.measures.kid import kid
from networks import projection
from networks.coordinates import View
from networks.interfaces import Codes
from networks.pretrained.frozen import fit_square
from networks.pretrained.scales import FrozenScales
from networks.snapshot import Snapshot
from torch_utils.rng import generator_for
from torch_utils.tensors import from_uint8, to_uint8

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
FEATURES_PX = 160  # side at which feature maps are compared; the search compares at 96


def enlarged(small: torch.Tensor, side: int, name: str) -> torch.Tensor:
    """A picture uint8 [3, S, S] at `side` pixels by a filter of Pillow."""
    picture = Image.fromarray(small.permute(1, 2, 0).numpy())
    return torch.from_numpy(np.array(picture.resize((side, side), FILTERS[name]))).permute(2, 0, 1)


class Distances:
    """Distances of pictures from a truth, both uint8 [3, L, L]."""

    def __init__(self) -> None:
        self.towers = {
            name: FrozenScales(name, FEATURES_PX, projection.NUM_SCALES)
            for name in ("lite0", "lite2")
        }

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
        a, b = (one[None].double() / 255 for one in (image, truth))
        found = {"psnr": psnr(a, b).item()}
        for name, tower in self.towers.items():
            maps = zip(*(tower(from_uint8(one)[None]) for one in (image, truth)), strict=True)
            apart = [(x - t).square().sum() / t.square().sum() for x, t in maps]
            found[name] = torch.stack(apart).mean().item()
        return found


def pictures_of(
    snapshot: Snapshot,
    first: Codes,
    spread: float,
    truth: torch.Tensor,
    steps: int,
    tower: FrozenScales,
) -> tuple[dict[str, torch.Tensor], float]:
    """The pictures made of the small version of `truth`, by name, and the seconds of the search.

    first, spread: of `projection.start`.
    """
    generator, side = snapshot.generator, truth.shape[-1]
    target = fit_square(from_uint8(truth)[None], snapshot.resolution)[0].clamp(-1, 1)
    small = to_uint8(target)
    started = time.process_time()
    search = projection.project(
        generator, from_uint8(small), first, steps=steps, spread=spread, tower=tower
    )
    _, kept = projection.best(search)
    seconds = time.process_time() - started
    with torch.no_grad():
        drawn = to_uint8(generator.synthesis(kept.codes, View.square(side))[0])
    return {"projection": drawn} | {name: enlarged(small, side, name) for name in FILTERS}, seconds


def rows_of(
    made: list[dict[str, torch.Tensor]],
    truths: list[torch.Tensor],
    real: np.ndarray,
    detector: Callable[[torch.Tensor], torch.Tensor],
) -> Iterator[dict]:
    """One row for each kind of picture."""
    distances = Distances()
    of = {
        name: [distances(one[name], truth) for one, truth in zip(made, truths, strict=True)]
        for name in made[0]
    }
    for name, found in of.items():
        row: dict = {"picture": name}
        for measure in found[0]:
            values, base = (np.array([one[measure] for one in of[n]]) for n in (name, "lanczos"))
            closer = values > base if measure == "psnr" else values < base
            row |= {measure: float(values.mean()), f"{measure}_wins": float(closer.mean())}
        fake = detector(torch.stack([one[name] for one in made])).numpy()
        yield row | {"kid_lite2": kid(real, fake)}
    yield {"picture": "truth", "kid_lite2": kid(real, detector(torch.stack(truths)).numpy())}


@click.command()
@click.option("--network", required=True, metavar="PATH", help="Snapshot or run folder.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), metavar="ZIP|DIR", help="Large ones."
)
@click.option("--split", type=click.Choice(["train", "test", "all"]), default="test")
@click.option("--num-images", "num", type=click.IntRange(2), default=12, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=500, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), metavar="FILE")
@report_user_errors
def main(network: str, data: Path, split: str, num: int, steps: int, path: Path | None) -> None:
    """Compare projections with enlargements at the size of the data set."""
    if path:
        refuse_foreign(path, RECORD)
    torch.set_num_threads(1)
    snapshot, dataset = Snapshot.from_pretrained(network), TextImageDataset(data, split=split)
    image = dataset[0].image
    if image.shape[1] != image.shape[2] or image.shape[1] <= snapshot.resolution:
        raise UserError(
            f"--data {data}: its pictures are {image.shape[2]}x{image.shape[1]}, but squares "
            f"larger than {snapshot.resolution} px are needed; build it with a larger --resolution"
        )
    order = torch.randperm(len(dataset), generator=generator_for("projection detail")).tolist()
    truths = [dataset[index].image for index in order[:num]]
    tower = FrozenScales(projection.TOWER, projection.TOWER_PX, projection.NUM_SCALES)
    encoder = snapshot.load_encoder()
    text = encoder.encode_text([""]) if encoder else None
    first, spread = projection.start(snapshot.generator, text, 0, at_mean=True)
    made, seconds = [], []
    for number, truth in enumerate(truths, start=1):
        pictures, taken = pictures_of(snapshot, first, spread, truth, steps, tower)
        made.append(pictures)
        seconds.append(taken)
        click.echo(f"{number} of {len(truths)} projected, {taken:.0f} s", err=True)
    detector = load_detector("lite2", torch.device("cpu"))
    real = np.concatenate([detector(dataset[i].image[None]).numpy() for i in range(len(dataset))])
    rows = list(rows_of(made, truths, real, detector))
    for row in rows:
        click.echo(row)
    record = {
        "benchmark": "projection_detail",
        "date": datetime.date.today().isoformat(),
        "machine": machine(torch.device("cpu")),
        "network": {"name": Path(network).name, "sha256": snapshot.sha256},
        "data": data.stem,
        "from_px": snapshot.resolution,
        "to_px": image.shape[1],
        "num_images": len(truths),
        "num_real": len(real),
        "steps": steps,
        "seconds": float(np.mean(seconds)),
        "rows": rows,
    }
    if path:
        write_json(path, record, ours=RECORD)


if __name__ == "__main__":
    main()
