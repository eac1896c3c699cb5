"""Generate pictures of prompts with a snapshot, at any size and of any part of the plane."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import remove_leftovers
from dnnlib.names import listing
from dnnlib.version import VERSION
from networks.view_options import ViewOptions, view_options

if TYPE_CHECKING:
    from networks.sampling import ImageStream, TruncationCenter

MAX_SEEDS = 1_000_000
NO_PROMPT = (
    'no prompt; give --prompts "a red apple" (may be repeated) or --prompts-file FILE '
    "with one a line"
)
GRID = "grid.png"
PICTURE_NAME = r"\d+-(.*-)?seed\d{4,}\.png|" + re.escape(GRID)
# Keys of the PNG texts by which we recognise the pictures of this command.
MARKS = ("snapshot", "size", "window", "truncation")


def parse_seeds(text: str) -> list[int]:
    """The value of --seeds: '0-3,7' -> [0, 1, 2, 3, 7].

    Raises `UserError` for a malformed text and for more than `MAX_SEEDS` seeds.
    """
    ranges: list[range] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", part)
        if match is None:
            raise UserError(f"--seeds {text}: expected numbers and ranges such as 0-3,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(f"--seeds {text}: the range {part.strip()} runs backwards")
        ranges.append(range(first, last + 1))
    if sum(map(len, ranges)) > MAX_SEEDS:
        raise UserError(f"--seeds {text}: at most {MAX_SEEDS} seeds a run")
    return [seed for one in ranges for seed in one]


def read_prompts(prompts: tuple[str, ...], prompts_file: str | None) -> list[str]:
    """The prompts of the command line, then those of the file (one a line, blank lines skipped).

    The list is empty if neither is given. Raises `UserError` for an empty prompt, and for a file
    that cannot be read as UTF-8.
    """
    texts = [prompt.strip() for prompt in prompts]
    if prompts_file is not None:
        try:
            lines = Path(prompts_file).read_text(encoding="utf-8-sig").splitlines()
            texts += [line.strip() for line in lines if line.strip()]
        except UnicodeDecodeError as error:
            raise UserError(
                f"--prompts-file {prompts_file}: byte {error.start} is not UTF-8; save the file "
                "as UTF-8 text"
            ) from None
        except OSError as error:
            raise UserError(
                f"--prompts-file {prompts_file}: cannot be read ({error.strerror})"
            ) from None
    if not all(texts) or not texts and prompts_file is not None:
        raise UserError(NO_PROMPT)
    for prompt in texts:
        if not prompt.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise UserError(
                f"--prompts {prompt!r}: is not UTF-8 text; set the terminal to UTF-8 or use "
                "--prompts-file"
            )
    return texts


def fitting_prompts(texts: list[str], reads_text: bool, network: str) -> list[str]:
    """The given prompts for a network that reads text; one empty prompt for any other network.

    network: the network's path, for messages. Raises `UserError` if a network that reads text gets
    no prompt, or another network gets one.
    """
    if reads_text and not texts:
        raise UserError(NO_PROMPT)
    if texts and not reads_text:
        raise UserError(
            f"--prompts: {network} was trained without text and reads no prompt; leave prompts out"
        )
    return texts or [""]


def slug(prompt: str) -> str:
    """A prompt as part of a file name: up to 48 letters and digits of any script, and hyphens."""
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", prompt).lower())
    return words.strip("-")[:48].strip("-") or "prompt"


@click.command(context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--network",
    required=True,
    metavar="PATH",
    help="Snapshot folder, run folder (its newest snapshot), or user/name on the Hugging Face Hub.",
)
@click.option(
    "--prompts",
    multiple=True,
    metavar="TEXT",
    help="Prompt; may be repeated. Networks that were trained without text take none.",
)
@click.option("--prompts-file", metavar="FILE", help="Text file with one prompt a line.")
@click.option(
    "--seeds",
    default="0",
    show_default=True,
    metavar="LIST",
    help="Seeds of the latents, such as 0-3,7; each prompt is generated with each seed.",
)
@click.option("--size", metavar="WxH", help="Size in pixels.  [default: the trained resolution]")
@view_options
@click.option(
    "--trunc",
    default=1.0,
    show_default=True,
    help="Truncation psi; values below 1 give more typical and less varied pictures.",
)
@click.option(
    "--trunc-center",
    type=click.Choice(["prompt", "global"]),
    default="prompt",
    show_default=True,
    help="Truncate towards the mean of the same prompt, or towards the mean of all training.",
)
@click.option(
    "--text-noise",
    type=click.FloatRange(min=0),
    metavar="F",
    help="Noise on the sentence feature, relative to its length; more noise gives more varied "
    "pictures of a prompt.  [default: the network's value]",
)
@click.option(
    "--grid",
    is_flag=True,
    help="Also write grid.png: a row for each prompt, a column for each seed.",
)
@click.option(
    "--outdir", default="out", show_default=True, metavar="DIR", help="Folder of the pictures."
)
@click.option(
    "--batch-gpu",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Pictures in one batch.",
)
@click.option(
    "--tile",
    type=click.IntRange(min=1),
    help="Maximum number of pixels that are rendered at once; bounds memory and does not change "
    "the pictures.  [default: by device]",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cpu, cuda, cuda:N or mps.",
)
@click.option(
    "--ops",
    type=click.Choice(["auto", "cuda", "ref"]),
    default="auto",
    show_default=True,
    help="Operators: CUDA kernels, plain PyTorch (ref), or CUDA kernels where they run (auto).",
)
@report_user_errors
def main(
    network: str,
    prompts: tuple[str, ...],
    prompts_file: str | None,
    seeds: str,
    size: str | None,
    view_options: ViewOptions,
    trunc: float,
    trunc_center: TruncationCenter,
    text_noise: float | None,
    grid: bool,
    outdir: str,
    batch_gpu: int,
    tile: int | None,
    device: str,
    ops: str,
) -> None:
    """Generate a picture of each prompt with each seed. A network without text takes only seeds.

    \b
    Example:
      python generate.py --network runs/demo --prompts "a red apple" --seeds 0-3 \\
          --size 1000x600 --grid
    """
    # Check the options before anything heavy is imported.
    texts, numbers = read_prompts(prompts, prompts_file), parse_seeds(seeds)

    from networks.coordinates import check_picture_size, parse_size
    from networks.sampling import iterate_images
    from networks.snapshot import Snapshot
    from networks.text_encoders.limits import cut_line
    from torch_utils.distributed import resolve_device
    from torch_utils.local_ranks import use_one_thread
    from torch_utils.memory import memory_errors
    from torch_utils.ops import check_backend

    torch_device = resolve_device(device)
    use_one_thread()
    implementation = check_backend(ops, torch_device)
    view = view_options.view()
    width, height = parse_size(size) if size else (None, None)

    # Load the network, and check prompts, picture size and folder.
    snapshot = Snapshot.from_pretrained(network)
    texts = fitting_prompts(texts, snapshot.generator.reads_text, network)
    view = replace(view, height=height or snapshot.resolution, width=width or snapshot.resolution)
    num_columns, num_rows = (len(numbers), len(texts)) if grid else (1, 1)
    check_picture_size(view.width * num_columns, view.height * num_rows)
    names = picture_names(texts, numbers)
    check_folder(Path(outdir), [*names, GRID] if grid else names)
    remove_leftovers(outdir)
    encoder = snapshot.load_encoder(torch_device)
    if warning := cut_line(encoder, texts):
        click.echo(warning, err=True)

    # Generate the pictures and write each when it is done.
    stream = iterate_images(
        snapshot.generator.to(torch_device),
        encoder,
        [text for text in texts for _ in numbers],
        numbers * len(texts),
        view,
        truncation=trunc,
        center=trunc_center,
        text_noise=text_noise,
        batch_size=batch_gpu,
        tile_px=tile,
        device=torch_device,
    )
    facts = {
        "snapshot": snapshot.sha256,
        "size": f"{view.width}x{view.height}",
        **view_options.facts(),
        "truncation": f"{trunc} ({trunc_center})",
    }
    if text_noise is not None:
        facts["text_noise"] = str(text_noise)
    click.echo(
        f"{len(stream)} pictures of {view.width}x{view.height} on {torch_device}, "
        f"operators: {implementation}",
        err=True,
    )
    with memory_errors("lower --batch-gpu or --tile, or draw a smaller --size or windows of it"):
        _write(stream, names, Path(outdir), facts, num_columns=len(numbers) if grid else None)


def picture_names(texts: list[str], seeds: list[int]) -> list[str]:
    """The file names of all pictures, in the order in which they are generated.

    For each prompt there is a picture for each seed. An empty prompt is left out of the name.
    """
    digits = len(str(len(texts) * len(seeds) - 1))
    pairs = [(text, seed) for text in texts for seed in seeds]
    return [
        f"{i:0{digits}d}-{slug(text) + '-' if text else ''}seed{seed:04d}.png"
        for i, (text, seed) in enumerate(pairs)
    ]


def check_folder(outdir: Path, names: list[str]) -> None:
    """Name, on stderr, the pictures of an earlier call that stay in `outdir`.

    names: file names that will be written. Raises `UserError` if a file with one of these names
    exists that `generate.py` did not write.
    """
    from dnnlib.ownership import refuse_foreign
    from torch_utils.pictures import png_with

    ours = png_with(*MARKS)
    for name in names:
        refuse_foreign(outdir / name, ours)
    if outdir.is_dir():
        similar = {path.name for path in outdir.iterdir() if re.fullmatch(PICTURE_NAME, path.name)}
        kept = sorted(name for name in similar - set(names) if ours(outdir / name) is None)
        if kept:
            shown = listing(kept, 20)
            click.echo(f"{outdir} keeps {len(kept)} pictures of an earlier call: {shown}", err=True)


def _write(
    stream: ImageStream,
    names: list[str],
    outdir: Path,
    facts: dict[str, str],
    num_columns: int | None,
) -> None:
    """Write the pictures of a stream, and a grid of them if `num_columns` is given.

    facts: PNG texts of every picture. Raises `UserError` for a picture that is not finite.
    """
    from torch_utils.pictures import grid, png_with, save_png
    from torch_utils.tensors import to_uint8

    images = []
    for name, sample in zip(names, stream, strict=True):
        if not sample.image.isfinite().all():
            raise UserError(
                f"the picture of {sample.prompt!r} with seed {sample.seed} is not finite: the "
                "network overflows there; take an earlier snapshot, a --trunc nearer 1 or a "
                "--window nearer the frame"
            )
        image = to_uint8(sample.image)
        prompt = {"prompt": sample.prompt} if sample.prompt else {}
        save_png(
            outdir / name, image, prompt | {"seed": str(sample.seed)} | facts, ours=png_with(*MARKS)
        )
        click.echo(outdir / name)
        if num_columns:
            images.append(image)
    if num_columns:
        save_png(outdir / GRID, grid(images, num_columns), facts, ours=png_with(*MARKS))
        click.echo(outdir / GRID)


if __name__ == "__main__":
    main()
