"""Compute the response of each measure to known damage of OpenMoji pictures.

    python -m benchmarks.sensitivity --data data/openmoji64.zip --json RECORD

One half of the pictures is the reference. The pictures of the other half are damaged, written as a
folder with their captions, and scored by the code of `calc_metrics.py calc --images`.
docs/figures.py puts the table of a record in benchmarks/results/ into docs/evaluation.md.
"""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy.cluster.vq import kmeans2

from benchmarks.harness import RECORD, machine
from datasets.folder import CAPTIONS_FILE
from datasets.text_image import Record, TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.files import write_json, write_text
from dnnlib.ownership import never
from metrics.evaluations import evaluations_named
from metrics.features.detectors import load_detector
from metrics.make_reference import make_reference
from metrics.measures.base import Evaluation
from metrics.measures.cmmd import Cmmd
from metrics.measures.frechet import Frechet
from metrics.pictures.folder_subject import FolderSubject
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.reading import Compute
from metrics.pictures.sources import Sources
from metrics.runner import evaluate
from networks.interfaces import ImageTextEncoder
from networks.text_encoders import load_encoder
from torch_utils.pictures import save_png
from torch_utils.rng import generator_for

NUM_MODES = 8
CPU = torch.device("cpu")

# The formulas of fid* and cmmd* on detectors that need no download, and named evaluations.
ROWS = [
    Evaluation(
        name="Frechet, lite2", summary="the formula of fid*", measure=Frechet(detector="lite2")
    ),
    Evaluation(
        name="CMMD, small", summary="the formula of cmmd*", measure=Cmmd(detector="small-heldout")
    ),
    *evaluations_named(
        [
            "kid_lite2",
            "pr_lite2",
            "dc_lite2",
            "swd",
            "lattice",
            "motif",
            "clip_s_small_heldout",
            "clip_r_small",
        ]
    ),
]
COLUMNS = {  # heading: (evaluation, field of its record)
    "Frechet": ("Frechet, lite2", "value"),
    "KID": ("kid_lite2", "value"),
    "CMMD": ("CMMD, small", "value"),
    "precision": ("pr_lite2", "value"),
    "recall": ("pr_lite2", "recall"),
    "density": ("dc_lite2", "value"),
    "coverage": ("dc_lite2", "coverage"),
    "swd": ("swd", "value"),
    "lattice": ("lattice", "value"),
    "motif": ("motif", "value"),
    "CLIP-S": ("clip_s_small_heldout", "value"),
    "CLIP-R": ("clip_r_small", "value"),
}


Damaged = tuple[list[torch.Tensor], list[str]]  # pictures and captions


@dataclass(frozen=True)
class Damage:
    """A kind of damage.

    change: maps the pictures to score, the reference pictures and the captions of the first to
    damaged pictures and captions. Pictures are uint8 [3, H, W].
    """

    name: str
    change: Callable[[list[torch.Tensor], list[torch.Tensor], list[str]], Damaged]


def blurred(sigma: float) -> Damage:
    def blur(image: torch.Tensor) -> torch.Tensor:
        picture = Image.fromarray(image.permute(1, 2, 0).numpy()).filter(
            ImageFilter.GaussianBlur(sigma)
        )
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    return Damage(
        f"blur, sigma {sigma:g} px",
        lambda images, _, captions: ([blur(image) for image in images], captions),
    )


def noisy(deviation: float) -> Damage:
    def add(index: int, image: torch.Tensor) -> torch.Tensor:
        noise = (
            torch.randn(image.shape, generator=generator_for("sensitivity noise", index))
            * deviation
        )
        return (image + noise).round().clamp(0, 255).to(torch.uint8)

    return Damage(
        f"noise, deviation {deviation:g} of 255",
        lambda images, _, captions: ([add(i, image) for i, image in enumerate(images)], captions),
    )


def modes_dropped(kept: int) -> Damage:
    """Keep only the pictures of the `kept` largest of 8 k-means clusters.

    The remaining pictures are repeated up to the former number.
    """

    def drop(
        images: list[torch.Tensor], reference: list[torch.Tensor], captions: list[str]
    ) -> Damaged:
        detector = load_detector("lite2", CPU)
        reference_features, features = (
            torch.cat(
                [detector(torch.stack(part[i : i + 32])) for i in range(0, len(part), 32)]
            ).numpy()
            for part in (reference, images)
        )
        centres, members = kmeans2(
            reference_features.astype(np.float64), NUM_MODES, minit="++", seed=0
        )
        order = np.argsort(-np.bincount(members, minlength=NUM_MODES))[:kept]
        nearest = ((features[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        chosen = np.resize(np.flatnonzero(np.isin(nearest, order)), len(images))
        return [images[i] for i in chosen], [captions[i] for i in chosen]

    return Damage(f"{kept} of {NUM_MODES} modes", drop)


def ruled(amplitude: float) -> Damage:
    """Darken every picture by two waves of 8 pixels, along the rows and along the columns."""

    def add(image: torch.Tensor) -> torch.Tensor:
        side = torch.arange(max(image.shape[1:]))
        wave = amplitude * (1 + torch.sin(2 * torch.pi * side / 8))
        lines = wave[: image.shape[1], None] + wave[: image.shape[2]]
        return (image - lines).round().clamp(0, 255).to(torch.uint8)

    return Damage(
        f"lattice, amplitude {amplitude:g} of 255",
        lambda images, _, captions: ([add(image) for image in images], captions),
    )


def one_motif(share: float) -> Damage:
    """Mix the first picture, moved by up to an eighth of the side, into every picture."""

    def mix(index: int, image: torch.Tensor, motif: torch.Tensor) -> torch.Tensor:
        reach = image.shape[1] // 8
        by = torch.randint(-reach, reach + 1, (2,), generator=generator_for("motif", index))
        moved = motif.roll(tuple(by.tolist()), (1, 2)).float()
        return (image + share * (moved - image)).round().to(torch.uint8)

    return Damage(
        f"one motif in all, {share:.0%}",
        lambda images, _, captions: (
            [mix(index, image, images[0]) for index, image in enumerate(images)],
            captions,
        ),
    )


def captions_shuffled(percent: int) -> Damage:
    """Give a share of the pictures the captions of other pictures.

    In a seeded order, each of the first `percent` per cent gets the caption of the next one.
    """

    def shuffle(images: list[torch.Tensor], _: list[torch.Tensor], captions: list[str]) -> Damaged:
        moved = torch.randperm(
            len(captions), generator=generator_for("sensitivity captions")
        ).tolist()
        moved = moved[: len(captions) * percent // 100]
        changed = list(captions)
        for to, source in zip(moved, moved[1:] + moved[:1], strict=True):
            changed[to] = captions[source]
        return images, changed

    return Damage(f"{percent} % of captions shuffled", shuffle)


NOTHING = Damage("nothing", lambda images, _, captions: (images, captions))
DAMAGES = (
    NOTHING,
    blurred(0.5),
    blurred(1),
    blurred(2),
    noisy(5),
    noisy(15),
    noisy(40),
    ruled(5),
    ruled(20),
    one_motif(0.3),
    one_motif(0.6),
    modes_dropped(4),
    modes_dropped(2),
    modes_dropped(1),
    captions_shuffled(25),
    captions_shuffled(50),
    captions_shuffled(100),
)


def measure(
    records: Sequence[Record],
    damages: Sequence[Damage],
    num: int,
    folder: Path,
    rows: Sequence[Evaluation] = ROWS,
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (name, value by column) for each damage.

    `num` damaged records are scored against `num` others. Both are written as folders of pictures
    below `folder`. rows: the evaluations to compute.
    """
    # Draw the two halves, and compute the reference statistics.
    order = torch.randperm(len(records), generator=generator_for("sensitivity halves")).tolist()
    reference, judged = ([records[i] for i in order[start : start + num]] for start in (0, num))
    images = [record.image for record in judged]
    captions = [record.captions[0] for record in judged]
    others = [record.image for record in reference]
    write_folder(folder / "reference", others, [record.captions[0] for record in reference])
    statistics = folder / "reference.npz"
    # The text measures compare pictures with captions and need no reference.
    make_reference(
        folder / "reference",
        [row for row in rows if not row.name.startswith("clip")],
        statistics,
        Compute(CPU, 32),
        {},
    )
    rows = [replace(row, pictures=replace(row.pictures, num_images=num)) for row in rows]
    encoders: dict[str, ImageTextEncoder] = {}
    for spec in {"small", "small-heldout"} & {row.measure.detector for row in rows}:
        encoder = load_encoder(spec)
        assert isinstance(encoder, ImageTextEncoder)
        encoders[spec] = encoder

    # Score the pictures after each damage.
    for number, damage in enumerate(damages):
        place = folder / f"damage{number}"
        write_folder(place, *damage.change(images, others, captions))
        scores = {
            record["metric"]: record
            for record in evaluate(
                FolderSubject(PictureFolder(place)),
                Sources(reference=statistics),
                rows,
                encoders=encoders,
            )
        }
        yield (
            damage.name,
            {head: scores[row][field] for head, (row, field) in COLUMNS.items() if row in scores},
        )


def write_folder(folder: Path, images: Sequence[torch.Tensor], captions: Sequence[str]) -> None:
    """Write pictures, uint8 [3, H, W], and captions as a new folder of PNGs with captions.jsonl."""
    folder.mkdir()
    names = [f"{index:05d}.png" for index in range(len(images))]
    for name, image in zip(names, images, strict=True):
        save_png(folder / name, image, ours=never)
    lines = [
        json.dumps({"file": name, "captions": [caption]})
        for name, caption in zip(names, captions, strict=True)
    ]
    write_text(folder / CAPTIONS_FILE, "\n".join(lines) + "\n", ours=never)


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), default="data/openmoji64.zip", show_default=True
)
@click.option("--num-images", "num", default=1000, show_default=True, help="Pictures in each half.")
@click.option(
    "--json", "path", type=click.Path(path_type=Path), help="Write the record to this file."
)
@report_user_errors
def main(data: Path, num: int, path: Path | None) -> None:
    """Print the value of each measure after each damage, one line of JSON for each damage."""
    dataset = TextImageDataset(data, split="all")
    records = [dataset[i] for i in range(len(dataset))]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, numbers in measure(records, DAMAGES, num, Path(folder)):
            rows.append({"damage": name, "values": numbers})
            click.echo(json.dumps(rows[-1]))
    if path:
        record = {
            "benchmark": "sensitivity",
            "date": f"{datetime.date.today()}",
            "machine": machine(CPU),
            "arguments": {"data": data.stem, "num_images": num},
            "rows": rows,
        }
        write_json(path, record, ours=RECORD)


if __name__ == "__main__":
    main()
