"""Draw the pictures at the head of the README.

    python docs/pictures/make_front.py

front.jpg: one seed of one prompt at 64 x 64, at 256 x 256, beyond the frame, and at 1000 x 600.
flowers.jpg: eight captions of the test split, four seeds each, at 96 x 96.
icons.jpg: eight prompts, four seeds each, at 96 x 96, drawn by `openmoji64`.
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

PROMPT, SEED = "a pink flower with a yellow center and pointed petals", 4
PROMPTS = (
    "this flower has purple petals with a yellow center",
    "the petals are white and the center is yellow",
    "a bright yellow flower with round petals",
    "a large red flower with ruffled petals",
    "a purple flower with pointed petals",
    "an orange flower with a dark center",
    "this flower is pink with many thin petals",
    "a blue flower with many small petals",
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
        View.square(64),
        View.square(256),
        View(width=640, height=256, box=(-0.75, 0.0, 1.75, 1.0)),
        View.around_frame(width=1000, height=600),
    ]
    small, middle, beyond, large = (
        picture_of(drawn(snapshot, [PROMPT], [SEED], view)[0]) for view in views
    )
    page = Image.new("RGB", (1000, 256 + GAP + 600), "white")
    page.paste(small, (0, 256 - 64))
    page.paste(middle, (64 + GAP, 0))
    page.paste(beyond, (1000 - 640, 0))
    page.paste(large, (0, 256 + GAP))
    return page


def columns(snapshot: Snapshot, prompts: tuple[str, ...]) -> Image.Image:
    """Eight prompts in columns, seeds 0 to 3 in rows, at 96 x 96."""
    repeated = [prompt for prompt in prompts for _ in range(4)]
    images = drawn(snapshot, repeated, list(range(4)) * len(prompts), View.square(96))
    order = [column * 4 + row for row in range(4) for column in range(8)]
    return picture_of(grid([images[i] for i in order], 8))


@click.command()
@click.option("--network", default="flowers64-anyres", show_default=True, metavar="PATH")
@click.option("--icons", default="openmoji64", show_default=True, metavar="PATH")
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
    columns(snapshot, PROMPTS).save(outdir / "flowers.jpg", quality=90)
    columns(Snapshot.from_pretrained(icons), ICONS).save(outdir / "icons.jpg", quality=90)


if __name__ == "__main__":
    main()
