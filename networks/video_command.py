"""`generate.py video`: a zoom, a pan, a turn, or a walk between seeds or prompts, as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from dnnlib.console import progress_bar, report_user_errors
from dnnlib.device_options import device_option, ops_option
from dnnlib.errors import UserError
from dnnlib.seeds import parse_seeds
from networks.picture_facts import sampling_facts
from networks.sampling_options import check_center, sampling_options
from networks.shipped_networks import NETWORK_HELP
from networks.view_options import parse_pair

if TYPE_CHECKING:
    import torch

    from networks.interfaces import Codes
    from networks.moving_pictures import Motion
    from networks.snapshot import Snapshot

KINDS = ["zoom", "pan", "rotate", "latent", "prompt"]
MOVED = {"zoom": ("center", "octaves"), "pan": ("shift",), "rotate": ("center",)}  # by options


@click.command(context_settings={"max_content_width": 120})
@click.option(
    "--network",
    required=True,
    metavar="PATH",
    help=NETWORK_HELP,
)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    required=True,
    help="What moves: the window (zoom, pan), the picture in it (rotate), the seed (latent) or the "
    "prompt.",
)
@click.option("--prompt", metavar="TEXT", help="What to draw; not for --kind prompt.")
@click.option("--from", "first", metavar="TEXT", help="First prompt of --kind prompt.")
@click.option("--to", "last", metavar="TEXT", help="Last prompt of --kind prompt.")
@click.option(
    "--seeds",
    default=None,
    metavar="LIST",
    help="One seed; for --kind latent several, through which the walk goes and back to the first."
    "  [default: 0; latent: 0-3]",
)
@click.option(
    "--frames",
    "num_frames",
    default=120,
    show_default=True,
    metavar="N",
    help="Number of frames, at least 2.",
)
@click.option("--fps", default=24.0, show_default=True, help="Frames a second.")
@click.option("--size", metavar="WxH", help="Size in pixels.  [default: the trained resolution]")
@click.option(
    "--window",
    default="0,0,1,1",
    show_default=True,
    metavar="X0,Y0,X1,Y1|W:H",
    help="Part of the plane in frame units at the first frame. W:H is a whole picture of this "
    "shape around the frame: 3:2 means -0.25,0,1.25,1.",
)
@click.option(
    "--center",
    default="0.5,0.5",
    show_default=True,
    metavar="X,Y",
    help="Point in frame units that a zoom or a turn leaves in place.",
)
@click.option(
    "--octaves",
    default=5.0,
    show_default=True,
    help="A zoom enlarges by 2 to this power, and returns; below 0 it shrinks first.",
)
@click.option(
    "--shift",
    default="1,0",
    show_default=True,
    metavar="X,Y",
    help="A pan moves the window by this much, in frame units.",
)
@sampling_options
@click.option(
    "--out",
    default="video.mp4",
    show_default=True,
    metavar="PATH",
    help="NAME.mp4 (H.264, needs PyAV), NAME.webp, or a name without an ending: a folder of PNGs.",
)
@device_option
@ops_option
@report_user_errors
def video(
    network: str, size: str | None, window: str, out: str, device: str, ops: str, **options: Any
) -> None:
    """Draw a moving picture, frame by frame, in constant memory.

    \b
    Example:
      python generate.py video --network runs/demo --kind zoom --prompt "a red apple" --out zoom.mp4
    """
    check_texts(options)
    check_moves(options["kind"])
    check_center(options["trunc"])
    seeds = seeds_of(options)

    from networks.coordinates import View, check_picture_size, parse_size, parse_window
    from networks.moving_pictures import frames
    from networks.snapshot import Snapshot
    from torch_utils.distributed import resolve_device
    from torch_utils.local_ranks import use_one_thread
    from torch_utils.memory import memory_errors
    from torch_utils.ops import check_backend
    from torch_utils.video_files import check_video, write_video

    torch_device = resolve_device(device)
    use_one_thread()
    check_backend(ops, torch_device)
    box = parse_window(window)
    width, height = parse_size(size) if size else (None, None)
    snapshot = Snapshot.from_pretrained(network)
    snapshot.generator.use_samples(options["samples"])
    side = snapshot.resolution
    view = View(height=height or side, width=width or side, box=box)
    check_picture_size(view.width, view.height)
    view.check_steps()
    num_frames, fps = options["num_frames"], options["fps"]
    check_video(Path(out), view.width, view.height, num_frames, fps)
    motion = motion_of(options)
    for frame in range(num_frames):
        motion.view(view, frame)  # refuses before the first frame what it would refuse later
    codes = codes_of_frames(snapshot, network, options, seeds, motion, torch_device)
    generator = snapshot.generator.to(torch_device)
    sampling = (options["trunc"], options["trunc_center"], options["text_noise"])
    facts = facts_of(options, seeds) | sampling_facts(generator, *sampling)
    facts |= {"snapshot": snapshot.sha256, "window": ",".join(map(str, box))}
    with (
        memory_errors("draw a smaller --size or lower --tile"),
        progress_bar(num_frames, "frames") as bar,
    ):
        drawn = frames(generator, codes, view, motion, options["tile"])
        write_video(Path(out), counted(drawn, bar), num_frames, fps, facts)
    click.echo(out)


def check_texts(options: dict[str, Any]) -> None:
    """Raises `UserError` where the prompts do not fit the kind of video."""
    walk = options["kind"] == "prompt"
    for flag, name in (("--from", "first"), ("--to", "last"), ("--prompt", "prompt")):
        text = options[name]
        if text is None:
            continue
        if walk == (name == "prompt"):
            remedy = "use --from and --to" if walk else "it belongs to --kind prompt; use --prompt"
            raise UserError(f"{flag}: does not fit --kind {options['kind']}; {remedy}")
        if not text.strip():
            raise UserError(f"{flag}: the prompt is empty; give a text such as 'a red apple'")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UserError(f"{flag} {text!r}: is not UTF-8 text; set the terminal to UTF-8")
    if walk and (options["first"] is None or options["last"] is None):
        raise UserError("--kind prompt: needs two prompts, --from TEXT and --to TEXT")


def check_moves(kind: str) -> None:
    """Raises `UserError` for an option of movement that was given and that this kind ignores."""
    source = click.get_current_context().get_parameter_source
    for name in ("center", "octaves", "shift"):
        if name not in MOVED.get(kind, ()) and source(name) is not ParameterSource.DEFAULT:
            raise UserError(f"--{name} has no effect on --kind {kind}; leave it out")


def seeds_of(options: dict[str, Any]) -> list[int]:
    """The seeds of the command line. Raises `UserError` where the kind takes one and more came."""
    latent = options["kind"] == "latent"
    seeds = parse_seeds(options["seeds"] or ("0-3" if latent else "0"))
    if latent and len(seeds) < 2:
        raise UserError(
            f"--seeds {options['seeds']}: --kind latent walks between at least two seeds, "
            "such as 0-3"
        )
    if not latent and len(seeds) > 1:
        raise UserError(
            f"--seeds {options['seeds']}: --kind {options['kind']} draws one seed; give one, or "
            "use --kind latent"
        )
    return seeds


def motion_of(options: dict[str, Any]) -> Motion:
    """How the view moves. Raises `UserError`."""
    from networks.moving_pictures import Motion

    return Motion(
        kind=options["kind"],
        num_frames=options["num_frames"],
        center=parse_pair("center", options["center"]),
        octaves=options["octaves"],
        shift=parse_pair("shift", options["shift"]),
    )


def facts_of(options: dict[str, Any], seeds: list[int]) -> dict[str, str]:
    """What the file says of the video: the options that decide what moves, and of what."""
    facts = {"kind": options["kind"], "seeds": ",".join(map(str, seeds))}
    for name, key in (("prompt", "prompt"), ("first", "from"), ("last", "to")):
        if options[name] is not None:
            facts[key] = options[name]
    return facts | {name: str(options[name]) for name in MOVED.get(options["kind"], ())}


def codes_of_frames(
    snapshot: Snapshot,
    network: str,
    options: dict[str, Any],
    seeds: list[int],
    motion: Motion,
    device: torch.device,
) -> Callable[[int], Codes]:
    """The codes of every frame. Raises `UserError` where network and prompts do not fit."""
    from networks.moving_pictures import latent_walk, prompt_walk
    from networks.sampling import draw_codes
    from networks.text_encoders.limits import cut_line

    given = [options[name] for name in ("prompt", "first", "last") if options[name] is not None]
    if given and not snapshot.generator.reads_text:
        raise UserError(
            f"{network} was trained without text and reads no prompt; leave --prompt, --from and "
            "--to out"
        )
    if not given and snapshot.generator.reads_text:
        raise UserError('no prompt; give --prompt "a red apple"')
    encoder = snapshot.load_encoder(device)
    cut = cut_line(encoder, given) if given else None
    if cut:
        click.echo(cut, err=True)
    generator = snapshot.generator.to(device)
    how = (options["trunc"], options["trunc_center"], options["text_noise"], device)
    prompt = options["prompt"] or ""
    if motion.kind == "prompt":
        assert encoder is not None  # prompts of a network without text were refused above
        return prompt_walk(
            generator, encoder, (given[0], given[1]), seeds[0], motion.num_frames, *how
        )
    if motion.kind == "latent":
        return latent_walk(generator, encoder, prompt, seeds, motion.num_frames, *how)
    codes = draw_codes(generator, encoder, [prompt], seeds, *how)
    return lambda frame: codes


def counted(frames: Iterator[torch.Tensor], bar: Any) -> Iterator[torch.Tensor]:
    """The same frames; the bar moves by one after each."""
    for frame in frames:
        yield frame
        bar.update(1)
