"""Find the codes of which a snapshot draws a given picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.console import report_user_errors
from dnnlib.device_options import device_option
from dnnlib.errors import UserError
from dnnlib.names import printable
from dnnlib.prompts import refuse_other_bytes
from dnnlib.version import VERSION
from networks.shipped_networks import NETWORK_HELP

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from networks.interfaces import TextFeatures
    from networks.snapshot import Snapshot

MAX_ASPECT = 8  # of the part of a target that is resized


@click.command(context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--network",
    required=True,
    metavar="PATH",
    help=NETWORK_HELP,
)
@click.option(
    "--target",
    required=True,
    metavar="FILE",
    help="Picture to find the codes of. It is brought to the trained frame: the short side is "
    "resized, the long side cropped in the middle.",
)
@click.option(
    "--prompt",
    metavar="TEXT",
    help="Begin at the codes of this text.  [default: at the mean of the training]",
)
@click.option(
    "--out",
    default="codes.safetensors",
    show_default=True,
    metavar="FILE",
    help="File of the codes.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=500, show_default=True, help="Steps of Adam."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the random latents. The search starts at the mean of their codes.",
)
@device_option
@report_user_errors
def main(
    network: str, target: str, prompt: str | None, out: str, steps: int, seed: int, device: str
) -> None:
    """Find codes of which the network draws a picture, by gradient descent on pixels and features.
    The codes of least loss are saved.

    \b
    Example:
      python project.py --network runs/demo --target cat.png --prompt "a cat" --out cat.safetensors
      python generate.py --network runs/demo --codes cat.safetensors --size 512
    """
    from datasets.import_options import progress
    from dnnlib.files import check_target
    from networks.codes_file import codes_fault, save_codes
    from networks.projection import best, project, psnr, start
    from networks.snapshot import Snapshot
    from torch_utils.distributed import resolve_device
    from torch_utils.local_ranks import use_one_thread

    # Check everything that the user gave.
    if prompt is not None and not prompt.strip():
        raise UserError("--prompt: is empty; give a text such as 'a red apple', or leave it out")
    refuse_other_bytes("--prompt", prompt or "")
    torch_device = resolve_device(device)
    use_one_thread()
    check_target(out, codes_fault)
    snapshot = Snapshot.from_pretrained(network)
    image = read_target(target, snapshot.resolution).to(torch_device)
    text = _text(snapshot, prompt, network, torch_device)

    # Search.
    generator = snapshot.generator.to(torch_device)
    first, spread = start(generator, text, seed, at_mean=prompt is None)
    search = project(generator, image, first, steps=steps, spread=spread)
    with progress(search, "Projecting", length=steps + 1) as bar:
        taken = list(bar)
    number, kept = best(taken)
    decibels = psnr(generator, kept.codes, image)
    click.echo(
        f"Loss {taken[0].loss:.4f} at the start, {kept.loss:.4f} after {number} of {steps} steps, "
        f"the least; PSNR {decibels:.2f} dB at {snapshot.resolution}x{snapshot.resolution}",
        err=True,
    )
    facts = {"target": printable(Path(target).name), "prompt": prompt or "", "steps": str(steps)}
    facts |= {"seed": str(seed), "psnr": f"{decibels:.2f}", "resolution": str(snapshot.resolution)}
    save_codes(out, kept.codes, snapshot, facts)
    click.echo(out)


def read_target(path: str, side: int) -> torch.Tensor:
    """A picture file as the trained frame, [3, side, side] in [-1, 1].

    The short side is resized and the long side cropped, centred; a line on stderr says so. Raises
    `UserError` for files that are no picture.
    """
    import numpy
    import torch

    from datasets.picture_files import load_rgb
    from networks.pretrained.frozen import fit_square
    from torch_utils.tensors import from_uint8

    picture = load_rgb(path).picture
    width, height = picture.size
    image = from_uint8(torch.from_numpy(numpy.array(middle_part(picture))).permute(2, 0, 1))
    if (width, height) != (side, side):
        cropped = "" if width == height else f" and cropped to the middle {min(width, height)} px"
        click.echo(f"{path}: {width}x{height} is resized to {side}x{side}{cropped}", err=True)
    return fit_square(image[None], side)[0].clamp(-1, 1)


def middle_part(picture: Image.Image) -> Image.Image:
    """The middle of a picture, at most `MAX_ASPECT` times as long as wide.

    A picture of 1 x 60000 pixels, brought to the frame as a whole, would take all memory.
    """
    width, height = (min(side, MAX_ASPECT * min(picture.size)) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _text(
    snapshot: Snapshot, prompt: str | None, network: str, device: torch.device
) -> TextFeatures | None:
    """The features of the prompt, or of an empty prompt; None for a network without text."""
    encoder = snapshot.load_encoder(device)
    if encoder is None and prompt is not None:
        raise UserError(f"--prompt: {network} was trained without text; leave the prompt out")
    return encoder.encode_text([prompt or ""]) if encoder else None


if __name__ == "__main__":
    main()
