"""Write a snapshot for other programs: as one graph (ONNX, or a program of torch.export), or as a
page that draws in the browser (html).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.prompts import fitting_prompts, read_prompts, refuse_other_bytes
from dnnlib.version import VERSION
from networks.shipped_networks import NETWORK_HELP

if TYPE_CHECKING:
    from networks.export_formats import Format
    from networks.exported import ExportedNetwork
    from networks.snapshot import Snapshot

# Options that only one kind of --format reads.
OF_PAGES = ("prompts", "prompts_file", "free_text", "runtime")
OF_GRAPHS = ("prompt", "prompt_length")


@click.command(context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--network",
    required=True,
    metavar="PATH",
    help=NETWORK_HELP,
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["onnx", "torch-export", "html"]),
    required=True,
    help="onnx and html need the packages onnx, onnxscript and onnxruntime "
    "(requirements-optional.txt). html writes a folder: the page of explore.py without a server, "
    "for any static host.",
)
@click.option(
    "--out",
    required=True,
    metavar="PATH",
    help="File to write, usually NAME.onnx or NAME.pt2; for html the folder.",
)
@click.option(
    "--prompt-length",
    type=click.IntRange(1, 1024),
    default=77,
    show_default=True,
    help="Number of words that the graph takes; shorter prompts are filled up and masked. Not for "
    "html.",
)
@click.option(
    "--prompt",
    metavar="TEXT",
    help="Also write the inputs of the graph for this prompt and seed 0, to PATH with ending .npz. "
    "Not for html.",
)
@click.option(
    "--prompts",
    multiple=True,
    metavar="TEXT",
    help="html: a prompt that the page offers; its features are stored. May be repeated.",
)
@click.option(
    "--prompts-file",
    metavar="FILE",
    help="html: more prompts, one a line.",
)
@click.option(
    "--free-text/--no-free-text",
    default=True,
    show_default=True,
    help="html: add the text tower of the encoders small and small-heldout (24 MB), so that any "
    "prompt can be typed.",
)
@click.option(
    "--runtime",
    metavar="FILE",
    help="html: the archive of onnxruntime-web, as `npm pack` writes it.  [default: npm fetches it "
    "once, into the cache]",
)
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Compare the file with PyTorch; a difference above 1e-4 is an error and no file stays.",
)
@report_user_errors
def main(
    network: str,
    format_: Format,
    out: str,
    prompt_length: int,
    prompt: str | None,
    prompts: tuple[str, ...],
    prompts_file: str | None,
    free_text: bool,
    runtime: str | None,
    check: bool,
) -> None:
    """Export mapping and synthesis of a snapshot as one graph. It draws any size and any window:
    the coordinates of rows and columns are inputs. The text encoder is not part of it.

    With --format html, export the explorer as a folder that any static host can serve.

    \b
    Examples:
      python export.py --network runs/demo --format onnx --out demo.onnx --prompt "a red apple"
      python export.py --network flowers64 --format html --out page --prompts "a red flower"
    """
    check_options(format_)
    if format_ == "html":
        texts = read_prompts(prompts, prompts_file)
        _export_page(network, Path(out), texts, free_text, runtime, check)
        return
    refuse_other_bytes("--prompt", prompt or "")
    _export_graph(network, format_, out, prompt_length, prompt, check)


def check_options(format_: Format) -> None:
    """Raises `UserError` for an option that was given and that this format ignores."""
    context = click.get_current_context()
    useless, reason = OF_PAGES, "is for --format html only; leave it out"
    if format_ == "html":
        useless, reason = OF_GRAPHS, "is for the other formats; for html give --prompts"
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is not ParameterSource.DEFAULT
        if given and option.name in useless:
            raise UserError(f"{'/'.join([*option.opts, *option.secondary_opts])}: {reason}")


def _export_page(
    network: str,
    target: Path,
    prompts: list[str],
    free_text: bool,
    runtime: str | None,
    check: bool,
) -> None:
    """The folder of `explorer.static_page`."""
    from dnnlib.files import atomic_path, check_target
    from explorer.static_page import StaticPage, can_read_text, page_fault
    from explorer.web_runtime import require_archive
    from networks import export_formats as formats
    from networks.exported import exportable
    from networks.snapshot import Snapshot
    from torch_utils.local_ranks import use_one_thread

    # Refuse what cannot work before anything is computed.
    use_one_thread()
    formats.require("html", check=check)
    check_target(target, page_fault, folder=True)
    snapshot = Snapshot.from_pretrained(network)
    exportable(snapshot.generator)
    reads_text = snapshot.generator.reads_text
    stored = fitting_prompts(prompts, reads_text, network) if reads_text or prompts else []
    archive = require_archive(None if runtime is None else Path(runtime))

    free_text = free_text and can_read_text(snapshot)
    name = Path(network).name or str(network)
    page = StaticPage(
        snapshot, name, snapshot.load_encoder(), list(dict.fromkeys(stored)), free_text
    )
    click.echo(f"Tracing {network}; this takes a minute or two", err=True)
    with atomic_path(target, ours=page_fault, folder=True) as temporary:
        measured = page.write(temporary, archive, check)
    for what, value in measured.items():
        click.echo(f"{what}: {value:.4g}", err=True)
    if reads_text and not free_text:
        click.echo("The page offers the given prompts only: it has no text tower", err=True)
    click.echo(target)


def _export_graph(
    network: str, format_: Format, out: str, prompt_length: int, prompt: str | None, check: bool
) -> None:
    """One file, and the inputs of a prompt where one is given."""
    from dnnlib.files import atomic_path, check_target
    from networks import export_formats as formats
    from networks.exported import ExportedNetwork
    from networks.snapshot import Snapshot
    from torch_utils.local_ranks import use_one_thread

    # Refuse what cannot work before anything is computed.
    use_one_thread()
    formats.require(format_, check=check)
    target = Path(out)
    if target.suffix == ".npz":
        raise UserError(f"--out {out}: .npz is the ending of the inputs; take .onnx or .pt2")
    ours = formats.exported_fault(format_)
    check_target(target, ours)
    features = target.with_suffix(".npz")
    snapshot = Snapshot.from_pretrained(network)
    exported = ExportedNetwork(snapshot.generator)
    if prompt is not None:
        check_target(features, formats.features_fault)
        inputs = _inputs(snapshot, exported, prompt, prompt_length, network)

    # Trace, write, and check the file before it takes its name.
    click.echo(f"Tracing {network} for prompts of {prompt_length} words", err=True)
    program = formats.trace(exported, prompt_length)
    with atomic_path(target, ours=ours) as temporary:
        metadata = _metadata(snapshot, exported, format_, prompt_length)
        formats.write(program, exported, temporary, format_, metadata)
        if check:
            run = (formats.open_onnx if format_ == "onnx" else formats.open_program)(temporary)
            difference = formats.deviation(
                run, exported, snapshot.generator, prompt_length, snapshot.resolution
            )
            if not difference <= formats.TOLERANCE:
                raise UserError(
                    f"{target}: differs from PyTorch by {difference:.1e}, more than "
                    f"{formats.TOLERANCE}; "
                    "it is not kept; please report it with the output of python doctor.py"
                )
            click.echo(
                f"Largest difference from PyTorch over three views: {difference:.1e}", err=True
            )
    click.echo(target)
    if prompt is not None:
        import numpy

        with atomic_path(features, ours=formats.features_fault) as temporary:
            numpy.savez(temporary, **{name: x.numpy() for name, x in inputs.items()})
        click.echo(features)


def _inputs(
    snapshot: Snapshot, exported: ExportedNetwork, prompt: str, prompt_length: int, network: str
) -> dict:
    """The inputs of the graph for one prompt, seed 0 and the trained frame."""
    from networks.coordinates import View
    from networks.export_formats import fixed_length
    from networks.sampling import draw_inputs

    encoder = snapshot.load_encoder()
    if encoder is None:
        raise UserError(f"--prompt: {network} was trained without text; leave the prompt out")
    z, text = draw_inputs(snapshot.generator, encoder, [prompt], [0])
    assert text is not None
    text = fixed_length(text, prompt_length)
    return exported.inputs(z, text, View.square(snapshot.resolution))


def _metadata(
    snapshot: Snapshot, exported: ExportedNetwork, format_: Format, prompt_length: int
) -> dict[str, str]:
    from networks.export_formats import MARK, OPSET

    facts = {
        MARK: VERSION,
        "network_sha256": snapshot.sha256,
        "system": snapshot.generator.config.kind,
        "resolution": snapshot.resolution,
        "samples": snapshot.generator.samples,
        "text_encoder": snapshot.text_encoder if snapshot.generator.reads_text else "",
        "text_encoder_id": snapshot.encoder_id,
        "prompt_length": prompt_length,
        "inputs": ",".join(exported.input_names),
    }
    if format_ == "onnx":
        facts["opset"] = OPSET
    return {name: str(value) for name, value in facts.items()}


if __name__ == "__main__":
    main()
