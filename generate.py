"""Generate pictures of prompts with a snapshot, at any size and of any part of the plane."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.console import report_user_errors
from dnnlib.device_options import device_option, ops_option
from dnnlib.errors import UserError
from dnnlib.prompts import read_prompts
from dnnlib.seeds import parse_seeds
from dnnlib.version import VERSION
from networks.edit_options import EditOptions, edit_options
from networks.picture_facts import about, facts_of, refuse_overflow, sampling_facts
from networks.picture_names import GRID, MARKS, check_folder, picture_names
from networks.sampling_options import check_center, sampling_options
from networks.shipped_networks import NETWORK_HELP, list_networks_option
from networks.video_command import video
from networks.view_options import ViewOptions, stretch_of, view_options

if TYPE_CHECKING:
    import torch

    from networks.code_edits import Drawing
    from networks.coordinates import View
    from networks.huge_pictures import Format
    from networks.sampling import ImageStream, TruncationCenter
    from networks.snapshot import Snapshot


class WithSubcommands(click.Command):
    """A command with options of its own; its first argument may be the name of a subcommand."""

    commands = {"video": video}

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args and args[0] in self.commands:
            name = f"{info_name} {args[0]}"
            return self.commands[args[0]].make_context(name, args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(limit=90))
                    for name, command in self.commands.items()
                ]
            )


@click.command(cls=WithSubcommands, context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--network",
    required=True,
    metavar="PATH",
    help=NETWORK_HELP,
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
@edit_options
@click.option("--size", metavar="WxH", help="Size in pixels.  [default: the trained resolution]")
@view_options
@sampling_options
@click.option(
    "--grid",
    is_flag=True,
    help="Also write grid.png: a row for each prompt, a column for each seed.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["png", "tiff", "dzi"]),
    default="png",
    show_default=True,
    help="tiff: a tiled BigTIFF; dzi: a Deep Zoom pyramid. These, and PNG above 2^24 pixels, are "
    "written in tiles. After an interruption the same command goes on at the next tile, and leaves "
    "finished pictures as they are.",
)
@click.option(
    "--compare-scales",
    "scales",
    metavar="LIST",
    help="Sides in pixels, such as 64,256,1024: a strip of each picture at these sizes, with its "
    "PSNR to the smallest.",
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
@device_option
@ops_option
@list_networks_option
@report_user_errors
def main(
    network: str,
    prompts: tuple[str, ...],
    prompts_file: str | None,
    seeds: str,
    edits: EditOptions,
    size: str | None,
    view_options: ViewOptions,
    trunc: float,
    trunc_center: TruncationCenter,
    text_noise: float | None,
    samples: int | None,
    grid: bool,
    kind: Format,
    scales: str | None,
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
    texts, numbers = read_prompts(prompts, prompts_file), parse_seeds(seeds)
    sides = check_outputs(kind, grid, size, scales)
    edits.check(texts, numbers, trunc, text_noise)
    check_center(trunc)

    from networks.code_edits import Sampler, iterate_drawings
    from networks.coordinates import parse_size
    from networks.huge_pictures import is_streamed
    from networks.sampling import iterate_images
    from networks.snapshot import Snapshot
    from torch_utils.distributed import resolve_device
    from torch_utils.local_ranks import use_one_thread
    from torch_utils.memory import memory_errors
    from torch_utils.ops import check_backend

    torch_device = resolve_device(device)
    use_one_thread()
    implementation = check_backend(ops, torch_device)
    view = view_options.view()
    width, height = parse_size(size) if size else (None, None)
    snapshot = Snapshot.from_pretrained(network)
    snapshot.generator.use_samples(samples)
    texts, numbers, codes = edits.pictures(snapshot, texts, numbers, network)
    view = replace(view, height=height or snapshot.resolution, width=width or snapshot.resolution)
    names = checked_names(texts, numbers, view, kind, grid, sides, Path(outdir))
    if stretch := stretch_of(view):
        click.echo(stretch, err=True)
    encoder = load_encoder(snapshot, edits.prompts(texts), torch_device) if codes is None else None
    generator = snapshot.generator.to(torch_device)
    pairs = [(text, seed) for text in texts for seed in numbers]
    options = dict[str, Any](truncation=trunc, center=trunc_center, text_noise=text_noise)
    sampler = Sampler(generator=generator, encoder=encoder, **options, device=torch_device)
    drawing = edits.drawing_of(sampler, pairs, codes)
    sampling = sampling_facts(generator, trunc, trunc_center, text_noise)
    facts = facts_of(snapshot.sha256, view, view_options, sampling) | edits.facts()
    shown = ",".join(map(str, sides)) if sides else facts["size"]
    pictures = "1 picture" if len(pairs) == 1 else f"{len(pairs)} pictures"
    click.echo(f"{pictures} of {shown} on {torch_device}, operators: {implementation}", err=True)
    places = [Path(outdir) / name for name in names]
    drawn = ((places[i], about(*pairs[i]) | facts, drawing(i)) for i in range(len(pairs)))
    with memory_errors("lower --batch-gpu or --tile, or draw a smaller --size or windows of it"):
        if sides:
            _write_scales(drawn, view, sides, tile)
        elif is_streamed(view, kind) and not grid:
            _write_streamed(drawn, places, view, kind, tile)
        else:
            stream = iterate_drawings(drawing, pairs, view, tile_px=tile)
            if edits == EditOptions():  # without an edit, in batches
                all_texts, all_seeds = zip(*pairs, strict=True)
                options |= {"batch_size": batch_gpu, "tile_px": tile, "device": torch_device}
                stream = iterate_images(generator, encoder, all_texts, all_seeds, view, **options)
            _write(stream, names, Path(outdir), facts, num_columns=len(numbers) if grid else None)


def load_encoder(snapshot: Snapshot, texts: list[str], device: torch.device) -> Any:
    """What reads the prompts, None for a network without text. A line on stderr says which prompts
    are longer than what the text encoder reads.
    """
    from networks.text_encoders.encoded import MAX_TEXTS, EncodedTexts
    from networks.text_encoders.limits import cut_line

    encoder = snapshot.load_encoder(device)
    if cut := cut_line(encoder, texts):
        click.echo(cut, err=True)
    if encoder is None or len(set(texts)) > MAX_TEXTS:
        return encoder
    return EncodedTexts(encoder, texts)


def checked_names(
    texts: list[str],
    seeds: list[int],
    view: View,
    kind: Format,
    grid: bool,
    sides: list[int],
    outdir: Path,
) -> list[str]:
    """The names of the files, after sizes and folder are checked.

    Raises `UserError` for what cannot be written.
    """
    names = picture_names(texts, seeds, "-scales.png" if sides else f".{kind}")
    check_sizes(view, len(seeds), len(texts), kind, grid, sides)
    if kind == "png":
        check_folder(outdir, [*names, GRID] if grid else names)
    return names


def check_sizes(
    view: View, columns: int, rows: int, kind: Format, grid: bool, sides: list[int]
) -> None:
    """Raises `UserError` where a picture, the grid of them or a strip of sizes is too large, or
    where float32 cannot tell pixels apart.
    """
    from networks.coordinates import check_picture_size
    from networks.huge_pictures import check_size

    if sides:
        check_picture_size(sides[-1] * len(sides), sides[-1])
    elif grid:
        check_picture_size(view.width * columns, view.height * rows)
    else:
        check_size(view.width, view.height, kind)
    (replace(view, width=sides[-1], height=sides[-1]) if sides else view).check_steps()


def check_outputs(kind: str, grid: bool, size: str | None, scales: str | None) -> list[int]:
    """The sides of --compare-scales, ascending; empty without it.

    Raises `UserError` for options that exclude each other.
    """
    if kind != "png" and (grid or scales):
        raise UserError(
            f"--format {kind}: {'--grid' if grid else '--compare-scales'} writes PNG; "
            "leave one of them out"
        )
    if scales is None:
        return []
    if grid:
        raise UserError("--compare-scales writes a strip of each picture; leave --grid out")
    if size:
        raise UserError("--compare-scales already sets the sizes; leave --size out")
    from metrics.pictures.scale_strip import parse_sides

    return parse_sides(scales)


def _write(
    stream: ImageStream,
    names: list[str],
    outdir: Path,
    facts: dict[str, str],
    num_columns: int | None,
) -> None:
    from torch_utils.pictures import grid, png_with, save_png
    from torch_utils.tensors import to_uint8

    images = []
    for name, sample in zip(names, stream, strict=True):
        refuse_overflow(sample.image, sample.prompt, sample.seed)
        image = to_uint8(sample.image)
        save_png(
            outdir / name, image, about(sample.prompt, sample.seed) | facts, ours=png_with(*MARKS)
        )
        click.echo(outdir / name)
        if num_columns:
            images.append(image)
    if num_columns:
        save_png(outdir / GRID, grid(images, num_columns), facts, ours=png_with(*MARKS))
        click.echo(outdir / GRID)


def _write_streamed(
    drawn: Iterable[tuple[Path, dict[str, str], Drawing]],
    places: list[Path],
    view: View,
    kind: Format,
    tile: int | None,
) -> None:
    from networks.huge_pictures import check_target, draw_huge, is_finished

    for place in places:
        check_target(place, kind)
    for place, facts, (generator, codes) in drawn:
        if is_finished(place, kind, facts):
            click.echo(f"{place} is finished; delete it to draw it again", err=True)
        else:
            draw_huge(generator, codes, view, place, kind, facts, tile_px=tile)
        click.echo(place)


def _write_scales(
    drawn: Iterable[tuple[Path, dict[str, str], Drawing]],
    view: View,
    sides: list[int],
    tile: int | None,
) -> None:
    from metrics.pictures.scale_strip import scale_facts, scale_strip
    from torch_utils.pictures import png_with, save_png

    for place, facts, (generator, codes) in drawn:
        picture, decibels = scale_strip(generator, codes, view, sides, tile)
        more = scale_facts(sides, decibels)
        save_png(place, picture, facts | more, ours=png_with(*MARKS))
        click.echo(f"{place}: {more['psnr']}")


if __name__ == "__main__":
    main()
