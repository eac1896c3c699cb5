"""Draw the pictures at the head of the README.

    python docs/pictures/make_front.py

front.jpg: one seed of one prompt at 128 x 128, at 256 x 256, beyond the frame, and at 1000 x 600.
flowers.jpg: eight captions of the test split, four seeds each, at 128 x 128.
icons.jpg: eight prompts, four seeds each, at 96 x 96, drawn by `openmoji64-anyres`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dnnlib.console import report_user_errors
from networks.coordinates import View
from networks.sampling import iterate_images
from networks.snapshot import Snapshot
from torch_utils.pictures import grid
from torch_utils.tensors import to_uint8

PROMPT, SEED = "the flower is pink in color and the bottom part of it is yellow", 1
PROMPTS = (
    "the flower is pink in color and the bottom part of it is yellow",
    "this flower has petals that are yellow and very stringy",
    "the petals of this flower are pink with a short stigma",
    "this flower is white and pink in color, with petals that are curled backwards",
    "this flower is yellow in color, with petals that are skinny oval shaped",
    "a flower with reddish pink petals and inner petals have white spots with brown dots",
    "this flower is pink and yellow in color, with petals that are spotted",
    "this blue flower has several long petals which are turned up at the end",
)
ICONS = (
    "a yellow icon of a smiling face",
    "a crying face",
    "a person with light skin tone",
    "a woman with red hair",
    "a red and white flag",
    "a light blue icon of a fish",
    "a black and white clock",
    "a brown icon of a dog face",
)
GAP = 12  # pixels between pictures


def drawn(
    snapshot: Snapshot, prompts: list[str], seeds: list[int], view: View
) -> list[torch.Tensor]:
    """uint8 [3, H, W] of every pair of prompt and seed."""
    samples = iterate_images(snapshot.generator, snapshot.load_encoder(), prompts, seeds, view)
    return [to_uint8(sample.image) for sample in samples]


def picture_of(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def front(snapshot: Snapshot) -> Image.Image:
    """The four views of one seed on one page. The picture of 1000 x 600 is shown at full size."""
    views = [
        View.square(128),
        View.square(256),
        View.around_frame(width=592, height=256),
        View.around_frame(width=1000, height=600),
    ]
    small, middle, beyond, large = (
        picture_of(drawn(snapshot, [PROMPT], [SEED], view)[0]) for view in views
    )
    page = Image.new("RGB", (1000, 256 + GAP + 600), "white")
    page.paste(small, (0, 128))
    page.paste(middle, (128 + GAP, 0))
    page.paste(beyond, (1000 - 592, 0))
    page.paste(large, (0, 256 + GAP))
    return page


def columns(snapshot: Snapshot, prompts: tuple[str, ...], side: int) -> Image.Image:
    """Eight prompts in columns, seeds 0 to 3 in rows, at side x side."""
    repeated = [prompt for prompt in prompts for _ in range(4)]
    images = drawn(snapshot, repeated, list(range(4)) * len(prompts), View.square(side))
    order = [column * 4 + row for row in range(4) for column in range(8)]
    return picture_of(grid([images[i] for i in order], 8))


@click.command()
@click.option("--network", default="flowers128", show_default=True, metavar="PATH")
@click.option("--icons", default="openmoji64-anyres", show_default=True, metavar="PATH")
@click.option(
    "--outdir",
    default=Path(__file__).parent,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the three files [default: docs/pictures]",
)
@report_user_errors
def main(network: str, icons: str, outdir: Path) -> None:
    """Write front.jpg, flowers.jpg and icons.jpg."""
    snapshot = Snapshot.from_pretrained(network)
    front(snapshot).save(outdir / "front.jpg", quality=90)
    columns(snapshot, PROMPTS, 128).save(outdir / "flowers.jpg", quality=90)
    columns(Snapshot.from_pretrained(icons), ICONS, 96).save(outdir / "icons.jpg", quality=90)


if __name__ == "__main__":
    main()
