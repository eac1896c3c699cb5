"""Count the pictures of flowers that show the colours of petals and centre in their caption.

    python -m benchmarks.two_colour_captions --network runs/flowers64 --data data/flowers64.zip

The captions are those of the data set that name a colour of the petals and another colour of the
centre, such as "this flower has purple petals with a yellow center". One picture is generated for
each. Each pixel gets a colour name by its hue, saturation and value. The rule looks for a place and
a size of the flower's centre: a disc and a ring around it, so that

- the centre's colour covers at least `CENTRE_SHARE` of the disc, and a smaller share of the ring;
- the petals' colour covers at least `PETAL_SHARE` of the ring, and no other petal colour covers
  more.

The picture matches its caption if one disc fulfils both. The discs have four radii and lie on a
grid over the middle of the picture. The two shares were chosen on training pictures of the flowers:
of 100 pictures, 68 match their caption.

Three further rows give references: real pictures with their captions, and both kinds of pictures
with captions that name other colours. The latter show the chance level.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
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
from networks.coordinates import View
from networks.sampling import iterate_images
from networks.snapshot import Snapshot
from torch_utils.rng import generator_for
from torch_utils.tensors import to_uint8

COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "white",
    "brown",
    "black",
    "grey",
)
HUES = (15, 42, 70, 165, 240, 300, 345)  # hues in degrees between the first seven colours
PETALS = ("red", "orange", "yellow", "blue", "purple", "pink", "white")
SYNONYMS = {"violet": "purple", "lavender": "purple", "maroon": "red", "gold": "yellow"}
SIDE = 64  # pictures are brought to this side in pixels
RADII = (3, 5, 8, 12)  # of the disc, in pixels of the small picture
RING = (1.3, 3.0)  # inner and outer radius of the ring, in radii of the disc
MIDDLES = range(14, 51, 3)  # rows and columns of the middles of the discs
CENTRE_SHARE = 0.3
PETAL_SHARE = 0.2

_NAMES = "|".join((*COLOURS[:-1], *SYNONYMS))
_PETALS = re.compile(rf"\b({_NAMES})(?: colou?red)? petals?\b")
_CENTRE = re.compile(rf"\b({_NAMES})(?: colou?red)? (?:center|centre|middle|disc|disk)\b")


@dataclass(frozen=True)
class TwoColours:
    """A caption and the colours that it names. index: that of its picture in the data set."""

    caption: str
    petals: str
    centre: str
    index: int = -1


def two_colours(caption: str, index: int = -1) -> TwoColours | None:
    """The colours of petals and centre in a caption.

    None unless the caption names exactly one colour of each and the two differ.
    """
    petals, centre = (
        {SYNONYMS.get(name, name) for name in pattern.findall(caption.lower())}
        for pattern in (_PETALS, _CENTRE)
    )
    if len(petals) != 1 or len(centre) != 1 or petals == centre or not petals <= set(PETALS):
        return None
    return TwoColours(caption, petals.pop(), centre.pop(), index)


def colour_names(picture: np.ndarray) -> np.ndarray:
    """The index in `COLOURS` of every pixel, int [H, W]. picture: uint8 [H, W, 3], sRGB."""
    hsv = np.asarray(Image.fromarray(picture).convert("HSV")).astype(np.float32) / 255
    hue, saturation, value = hsv[..., 0] * 360, hsv[..., 1], hsv[..., 2]
    names = np.searchsorted(HUES, hue, side="right") % len(HUES)
    pale = saturation < 0.18
    rules = [
        (value < 0.2, "black"),
        (pale & (value > 0.65), "white"),
        (pale, "grey"),
        ((names == 0) & (saturation < 0.55) & (value > 0.6), "pink"),
        ((names <= 1) & (hue > 8) & (hue < 180) & (value < 0.5), "brown"),
    ]
    conditions = [condition for condition, _ in rules]
    return np.select(conditions, [COLOURS.index(name) for _, name in rules], default=names)


@functools.cache
def regions() -> tuple[np.ndarray, np.ndarray]:
    """The discs and their rings, each [regions, SIDE * SIDE], so that every row sums to 1."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    discs, rings = [], []
    for radius, row, column in itertools.product(RADII, MIDDLES, MIDDLES):
        distance = np.hypot(rows - row, columns - column).ravel() / radius
        discs.append(distance < 1)
        rings.append((distance >= RING[0]) & (distance < RING[1]))
    disc, ring = (np.stack(masks).astype(np.float32) for masks in (discs, rings))
    return disc / disc.sum(axis=1, keepdims=True), ring / ring.sum(axis=1, keepdims=True)


def shares(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of each colour in each disc and in each ring: two arrays [regions, COLOURS].

    picture: uint8 [H, W, 3].
    """
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    names = colour_names(np.asarray(small)).ravel()
    one_hot = (names[:, None] == np.arange(len(COLOURS))).astype(np.float32)
    disc, ring = regions()
    return disc @ one_hot, ring @ one_hot


def matches(picture: np.ndarray, caption: TwoColours) -> bool:
    """Whether the picture, uint8 [H, W, 3], shows the two colours of the caption."""
    disc, ring = shares(picture)
    petal, centre = COLOURS.index(caption.petals), COLOURS.index(caption.centre)
    most = ring[:, [COLOURS.index(name) for name in PETALS]].max(axis=1)
    has_petals = (ring[:, petal] >= PETAL_SHARE) & (ring[:, petal] == most)
    has_centre = (disc[:, centre] >= CENTRE_SHARE) & (disc[:, centre] > ring[:, centre])
    return bool((has_petals & has_centre).any())


def chosen(dataset: TextImageDataset, num: int) -> list[TwoColours]:
    """One caption with two colours of each of `num` pictures, in a seeded order.

    Raises `UserError` if the data set has fewer such pictures.
    """
    captions: list[TwoColours] = []
    order = torch.randperm(len(dataset), generator=generator_for("two-colour captions"))
    for index in order.tolist():
        candidates = (two_colours(caption, index) for caption in dataset.captions(index))
        if first := next(filter(None, candidates), None):
            captions.append(first)
        if len(captions) == num:
            return captions
    raise UserError(
        f"--num {num}: {len(captions)} pictures of {dataset.name} ({dataset.split}) have "
        "a caption that names a colour of the petals and another of the centre"
    )


def row(name: str, pictures: Sequence[np.ndarray], captions: Sequence[TwoColours]) -> dict:
    """A row of the record: the number of pictures that match their caption."""
    pairs = zip(pictures, captions, strict=True)
    count = sum(matches(picture, caption) for picture, caption in pairs)
    return {"pictures": name, "num": len(pictures), "matches": count}


def other_colours(captions: Sequence[TwoColours]) -> list[TwoColours]:
    """For each caption, the next one in the list that names other petals and another centre.

    The caption itself if there is none.
    """
    others = []
    for i, one in enumerate(captions):
        following = [*captions[i + 1 :], *captions[:i]]
        differ = (x for x in following if x.petals != one.petals and x.centre != one.centre)
        others.append(next(differ, one))
    return others


def sheet(pictures: Sequence[np.ndarray], columns: int = 10) -> Image.Image:
    """A sheet of all pictures in rows, in the order of the captions."""
    side = pictures[0].shape[0]
    page = Image.new("RGB", (side * columns, side * -(-len(pictures) // columns)), "white")
    for i, picture in enumerate(pictures):
        page.paste(Image.fromarray(picture), (side * (i % columns), side * (i // columns)))
    return page


@click.command()
@click.option("--network", required=True, metavar="DIR", help="Snapshot folder or run folder.")
@click.option("--data", required=True, metavar="ZIP|DIR")
@click.option("--split", default="test", show_default=True, help="Split that gives the captions.")
@click.option("--num", default=50, show_default=True, type=click.IntRange(min=2))
@click.option("--seed", default=0, show_default=True, help="Latent seed of the first picture.")
@click.option(
    "--sheet",
    "sheet_path",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Write the pictures to this file, to confirm the count by eye.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the record to this file.",
)
@report_user_errors
def main(
    network: str,
    data: str,
    split: str,
    num: int,
    seed: int,
    sheet_path: Path | None,
    path: Path | None,
) -> None:
    """Count the pictures that show the colours of petals and centre in their caption."""
    if path:
        refuse_foreign(path, RECORD)
    if sheet_path and sheet_path.exists():
        raise UserError(f"--sheet {sheet_path}: exists already; name a new file")
    dataset = TextImageDataset(data, split=split)
    captions = chosen(dataset, num)
    snapshot = Snapshot.from_pretrained(network)
    view = View.square(snapshot.resolution)
    samples = iterate_images(
        snapshot.generator.eval(),
        snapshot.load_encoder(),
        [one.caption for one in captions],
        range(seed, seed + num),
        view,
    )
    generated = [to_uint8(sample.image).permute(1, 2, 0).numpy() for sample in samples]
    real = [dataset[one.index].image.permute(1, 2, 0).numpy() for one in captions]
    others = other_colours(captions)
    rows = [
        row("generated", generated, captions),
        row("real", real, captions),
        row("generated, captions of other colours", generated, others),
        row("real, captions of other colours", real, others),
    ]
    for line in rows:
        click.echo(f"{line['pictures']}: {line['matches']} of {line['num']} match")
    if sheet_path:
        sheet(generated).save(sheet_path)
    if path:
        write_json(
            path,
            {
                "benchmark": "two-colour captions",
                "date": datetime.date.today().isoformat(),
                "machine": machine(torch.device("cpu")),
                "data": dataset.name,
                "split": split,
                "seed": seed,
                "network": snapshot.info,
                "sha256": snapshot.sha256,
                "captions": [one.caption for one in captions],
                "rows": rows,
            },
            ours=RECORD,
        )


if __name__ == "__main__":
    main()
