"""Scores of snapshots and of folders of pictures: JSON records on stdout, progress on stderr."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.version import VERSION

if TYPE_CHECKING:
    from datasets.stylegan import LabelCaptions
    from metrics.pictures.specifications import Protocol
    from metrics.session import Sources

DEFAULT_METRICS = "kid_lite2,clip_s_small,clip_s_small_heldout,clip_r_small,scale_x2,tile_exact"
_METRICS = click.option("--metrics", default=DEFAULT_METRICS, show_default=True, metavar="A,B,...",
                        help="Protocols; see `list`.")
_NUM = click.option("--num-images", "--num", "num", type=int, metavar="N",
                    help="Generated pictures a protocol; scale_* and tile_exact take it as an upper limit only.  "
                         "[default: the protocol's own]")
_TRUNC = click.option("--trunc", type=float, metavar="PSI", help="Truncation of the latent.  [default: the protocol's own]")

_OPS = click.option("--ops", type=click.Choice(["auto", "cuda", "ref"]), default="auto", show_default=True,
                    help="Which implementation of the operators to use.")


def _on_device(command: Callable) -> Callable:
    """Where the networks run."""
    command = click.option("--batch-gpu", default=32, show_default=True, type=click.IntRange(min=1), metavar="N",
                           help="Pictures at once, per rank.")(command)
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")(command)


def _labels(command: Callable) -> Callable:
    """`labels`: how captions were made of class labels in training."""
    @click.option("--caption-template", default="", metavar="TEXT",
                  help="As in train.py, for --data with StyleGAN's class labels.")
    @click.option("--class-names", default="", metavar="FILE", help="As in train.py.")
    @functools.wraps(command)
    def with_labels(caption_template: str, class_names: str, **options: Any) -> None:
        from datasets.stylegan import LabelCaptions

        command(labels=LabelCaptions(template=caption_template, names=class_names), **options)
    return with_labels


def _local_weights(command: Callable) -> Callable:
    return click.option("--weights", multiple=True, metavar="NAME=FILE",
                        help="Local weight file of a detector: inception, dinov2, alexnet (LPIPS), open_clip:MODEL/TAG")(command)


@click.group()
@click.version_option(VERSION, prog_name="EIDGAN")
def main() -> None:
    """Score snapshots and folders of pictures by named, frozen protocols (docs/evaluation.md)."""


@main.command()
@click.option("--network", metavar="RUN|SNAPSHOT",
              help="Run folder (its newest snapshot), snapshot folder, or user/name on the Hugging "
                   "Face Hub.")
@click.option("--images", metavar="DIR",
              help="Instead of a network: a folder of pictures, from any model; --num-images takes "
                   "a seeded draw over all of them.")
@click.option("--data", metavar="ZIP|DIR", help="Data set whose captions and real pictures are used.")
@click.option("--ref", metavar="NPZ|DIR|ZIP", help="Real pictures in place of those of --data: what `ref` wrote, a folder, a "
              "data set, or another tool's .npz with mu and sigma.")
@click.option("--data-large", metavar="ZIP|DIR", help="Data set of larger real pictures, for detail_*, pfid* and *_extrapolated*.")
@_METRICS
@_NUM
@click.option("--seed", metavar="LIST", help="Blocks of captions and latents, such as 0-2.  [default: the protocol's own]")
@_TRUNC
@_on_device
@_OPS
@_local_weights
@click.option("--cache", default="data/.cache", show_default=True, metavar="DIR",
              help="Where features of real pictures are kept; the user's cache folder if one cannot write there.")
@click.option("--out", metavar="FILE.jsonl", help="Append the records to this file as well.")
@click.option("--nearest-sheet", metavar="FILE.png",
              help="Picture that nearest_train_lite2 draws: the generated pictures nearest to "
                   "training pictures, each beside that one.")
@report_user_errors
@_labels
def calc(network: str | None, images: str | None, data: str | None, ref: str | None, data_large: str | None, metrics: str,
         num: int | None, seed: str | None, trunc: float | None, device: str, batch_gpu: int, ops: str,
         weights: tuple[str, ...], cache: str, out: str | None, nearest_sheet: str | None,
         labels: LabelCaptions) -> None:
    """Compute scores, one JSON line each. Runs under torchrun as well, whose own --num... wants --num-images in full here.

    A protocol that cannot be computed is named on stderr with what it lacks; the others go on, and the exit code is 1.
    With --network and without --metrics, those that the data cannot serve are left out with a line.

    \b
      python calc_metrics.py calc --network runs/x --data data/coco256.zip --metrics fid30k_coco256,clip_s --seed 0-2
      python calc_metrics.py calc --images galip/pictures --ref coco256.npz --metrics fid30k_coco256
    """
    protocols, blocks = _protocols(metrics), _blocks(seed)
    _check_choice(network, images, data, ref, seed is not None or trunc is not None)

    from dnnlib.files import append_json_line, cache_folder, user_cache_folder
    from metrics.pictures.nearest_sheet import asked_sheet
    from metrics.pictures.picture_folder import PictureFolder
    from metrics.pictures.subjects import FolderSubject
    from metrics.runner import evaluate, load_subject
    from torch_utils.distributed import from_main, is_main, process_group, resolve_device
    from torch_utils.local_ranks import use_one_thread
    from torch_utils.memory import memory_errors
    from torch_utils.ops import check_backend

    use_one_thread()
    where = resolve_device(device)
    check_backend(ops, where)
    sources = _sources(data, ref, data_large, weights, labels)
    _check_out(out)
    sheet = asked_sheet(nearest_sheet, protocols, ref, len(blocks))
    refused: dict[str, list[str]] = {}
    cut: dict[str, int] = {}  # captions that are too long, with the tokens that are read
    with process_group(where), memory_errors("lower --batch-gpu"):
        cache_dir = from_main(cache_folder(cache, user_cache_folder()) if is_main() else None)
        protocols = _served(protocols, sources) if network and _is_default("metrics") else protocols
        subject = load_subject(network, where) if network else FolderSubject(PictureFolder(images or ""))
        for block in blocks:
            records = evaluate(
                subject, sources, protocols, num=num, seed=block, truncation=trunc, device=where, batch_size=batch_gpu,
                cache_dir=cache_dir, progress=_print_progress if is_main() else None,
                on_refusal=lambda protocol, error: refused.setdefault(
                    str(error), []).append(protocol.name),
                on_cut=lambda captions, limit: cut.update(dict.fromkeys(captions, limit)),
                nearest_sheet=sheet)
            for record in records:
                if is_main():
                    print(json.dumps(record, allow_nan=False, ensure_ascii=False), flush=True)
                    if out:
                        append_json_line(out, record)
        if is_main():
            _sum_up([row.name for row in protocols], refused, cut)
    if refused:
        sys.exit(1)


@main.command()
@click.option("--data", required=True, metavar="ZIP|DIR", help="Data set, or a folder of pictures.")
@click.option("--metrics", required=True, metavar="A,B,...", help="Protocols that will be compared with these pictures.")
@click.option("--dest", required=True, metavar="FILE.npz", help="Where to write; replaced only when the new one is whole.")
@_on_device
@_local_weights
@report_user_errors
def ref(data: str, metrics: str, dest: str, device: str, batch_gpu: int, weights: tuple[str, ...]) -> None:
    """Compute reference statistics of real pictures, to be given to `calc --ref` wherever the pictures are not.

    Mean and covariance in float64 (ddof 1), and features where a protocol needs them, each under the detector's name,
    weights and resize.

    Example: python calc_metrics.py ref --data data/coco256.zip --metrics fid30k_coco256,kid30k_coco256 --dest coco256.npz
    """
    protocols = _protocols(metrics)
    if Path(dest).suffix != ".npz":
        raise UserError(f"--dest {dest}: the name must end in .npz")
    _check_files(Path(data))

    from metrics.make_reference import make_reference
    from torch_utils.distributed import is_main, process_group, resolve_device
    from torch_utils.local_ranks import use_one_thread
    from torch_utils.memory import memory_errors

    use_one_thread()
    where = resolve_device(device)
    with process_group(where), memory_errors("lower --batch-gpu"):
        summary = make_reference(Path(data), protocols, Path(dest), device=where, batch_size=batch_gpu, weights=_weights(weights),
                                 progress=_print_progress if is_main() else _silent)
        if is_main():
            print(json.dumps(summary, ensure_ascii=False))


@main.command()
@click.option("--network", required=True, metavar="RUN|SNAPSHOT",
              help="Run folder (its newest snapshot), snapshot folder, or user/name on the Hugging "
                   "Face Hub.")
@click.option("--data", required=True, metavar="ZIP|DIR", help="Data set whose captions are used.")
@click.option("--metrics", "metric", default="fid10k", show_default=True, metavar="NAME", help="Protocol whose pictures to make.")
@click.option("--outdir", required=True, metavar="DIR", help="Folder for the pictures and their captions.")
@_NUM
@click.option("--seed", type=int, metavar="N", help="Block of captions and latents.  [default: the protocol's own]")
@_TRUNC
@_on_device
@_OPS
@report_user_errors
@_labels
def gen(network: str, data: str, metric: str, outdir: str, num: int | None, seed: int | None, trunc: float | None, device: str,
        batch_gpu: int, ops: str, labels: LabelCaptions) -> None:
    """Write the pictures that a protocol scores as PNG files, for other tools; `calc --images` gives the same numbers.

    captions.jsonl holds the captions, pictures.json where each picture comes from.
    """
    (protocol,) = _protocols(metric)[:1]
    protocol = protocol.with_overrides(num=num, seed=seed, truncation=trunc)
    _check_files(Path(data))

    from metrics.runner import load_subject
    from metrics.session import Sources
    from metrics.write_pictures import write_pictures
    from torch_utils.distributed import is_main, process_group, resolve_device
    from torch_utils.local_ranks import use_one_thread
    from torch_utils.memory import memory_errors
    from torch_utils.ops import check_backend

    use_one_thread()
    where = resolve_device(device)
    check_backend(ops, where)
    sources = Sources(data=Path(data), labels=labels)
    with process_group(where), memory_errors("lower --batch-gpu"):
        write_pictures(load_subject(network, where), sources, protocol, Path(outdir), device=where,
                       batch_size=batch_gpu,
                       progress=_print_progress if is_main() else _silent)
        if is_main():
            print(json.dumps({"outdir": outdir, "num_images": protocol.pictures.num_images, "protocol": protocol.name}))


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]RUN|FILE.jsonl ...")
@click.option("--metrics", default="", metavar="A,B,...", help="Columns.  [default: all that are there]")
@click.option("--format", "style", type=click.Choice(["markdown", "latex", "json"]), default="markdown", show_default=True)
@report_user_errors
def compare(runs: tuple[str, ...], metrics: str, style: str) -> None:
    """Print a table of runs: mean and standard deviation over the seed blocks of each protocol.

    RUN is a run folder or what `calc --out` wrote. Numbers that were not measured alike are named
    on stderr and below the table, with the conditions that differ; their column has no best.
    """
    from metrics.evaluations import protocols_named
    from metrics.report import differences, latex, markdown, read_runs, tabulate

    names = [name.strip() for name in metrics.split(",") if name.strip()]
    if names:
        protocols_named(names)
    table = tabulate(read_runs(runs), names)
    told = differences(table)
    for line in told.values():
        print(f"Warning: {line}", file=sys.stderr)
    if style == "json":
        print(json.dumps({label: {metric: {
            "mean": cell.mean, "spread": cell.spread, "num_blocks": cell.num_blocks,
            "differs": told.get((label, metric))} for metric, cell in row.items()}
            for label, row in table.items()}, ensure_ascii=False))
    else:
        print(latex(table) if style == "latex" else markdown(table))


@main.command("list")
def list_protocols() -> None:
    """Name the protocols, their number of pictures, split and meaning."""
    from metrics.evaluations import PROTOCOLS

    width = max(map(len, PROTOCOLS))
    for row in PROTOCOLS.values():
        print(f"{row.name:<{width}}  {row.pictures.num_images:>5} {row.pictures.split:<5}  {row.summary}")


def _protocols(metrics: str) -> list:
    # Names are checked before anything heavy is loaded.
    from metrics.evaluations import protocols_named

    return protocols_named([name.strip() for name in metrics.split(",") if name.strip()])


def _check_choice(network: str | None, images: str | None, data: str | None, ref: str | None,
                  sampling: bool) -> None:
    """Whether the options of `calc` go together. sampling: --seed or --trunc is there."""
    if (network is None) == (images is None):
        raise click.UsageError("give either --network or --images")
    if images is not None and sampling:
        raise UserError("--seed and --trunc choose what a network makes; pictures of a folder are "
                        "what they are: score one folder a seed block, and give them to compare as "
                        "NAME=FILE")
    if data is None and (network is not None or ref is None):
        raise click.UsageError("Missing option '--data': the data set whose captions and real "
                               "pictures are used")


def _sources(data: str | None, ref: str | None, data_large: str | None, weights: tuple[str, ...],
             labels: LabelCaptions) -> Sources:
    from metrics.session import Sources

    pictures, reference, large = (Path(text) if text else None for text in (data, ref, data_large))
    _check_files(pictures, reference, large)
    return Sources(pictures, reference, large, _weights(weights), labels)


def _check_out(out: str | None) -> None:
    from dnnlib.files import make_folder
    from dnnlib.ownership import json_lines_with, refuse_foreign

    if out:
        refuse_foreign(out, json_lines_with("metric", "value"))
        make_folder(Path(out).parent)


def _is_default(option: str) -> bool:
    context = click.get_current_context()
    return context.get_parameter_source(option) is ParameterSource.DEFAULT


def _served(protocols: list[Protocol], sources: Sources) -> list[Protocol]:
    """The default protocols that the data can serve. Raises `UserError` where none is left."""
    from datasets.text_image import TextImageDataset
    from metrics.evaluations import served
    from torch_utils.distributed import is_main

    assert sources.data is not None
    dataset = TextImageDataset(sources.data, split="all", labels=sources.labels)
    kept, others = served(protocols, dataset.splits, dataset.has_captions)
    lines = [f"{', '.join(names)}: --data {sources.data} has no {lack}"
             for lack, names in others.items()]
    if not kept:
        raise UserError(f"--metrics: the default ones cannot be computed: {'; '.join(lines)}")
    for line in lines if is_main() else ():
        print(f"Left out {line}", file=sys.stderr)
    return kept


def _blocks(text: str | None) -> list[int | None]:
    """'0-2,5' -> [0, 1, 2, 5]; None -> [None], the protocol's own."""
    if text is None:
        return [None]
    blocks: list[int | None] = []
    for part in text.split(","):
        first, separator, last = part.strip().partition("-")
        if not first.isdecimal() or (separator and not last.isdecimal()) or (separator and int(last) < int(first)):
            raise UserError(f"--seed {text}: expected numbers and ranges such as 0-2,5")
        blocks += range(int(first), int(last or first) + 1)
    return blocks


def _sum_up(protocols: list[str], refused: dict[str, list[str]], cut: dict[str, int]) -> None:
    """Print on stderr: captions beyond an encoder's tokens, a line a refusal, how many are scored.

    refused: protocols by message; cut: how many tokens are read, by caption.
    """
    from networks.text_encoders.limits import told_cut

    if cut:
        print(told_cut(cut, max(cut.values())), file=sys.stderr)
    for message, names in refused.items():
        print(f"Error: {', '.join(dict.fromkeys(names))}: {message}", file=sys.stderr)
    missing = [name for name in protocols if any(name in names for names in refused.values())]
    if missing and len(protocols) > 1:
        print(f"{len(protocols) - len(missing)} of {len(protocols)} protocols scored; "
              f"not scored: {', '.join(missing)}", file=sys.stderr)


def _weights(pairs: tuple[str, ...]) -> dict[str, Path]:
    files = {}
    for pair in pairs:
        name, separator, path = pair.rpartition("=")
        if not separator or not name:
            raise UserError(f"--weights {pair}: expected NAME=FILE, for example inception=weights.pth")
        if not Path(path).is_file():
            raise UserError(f"--weights {pair}: no such file {path}")
        files[name] = Path(path)
    return files


def _check_files(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.exists():
            raise UserError(f"{path} does not exist")


def _silent(what: str, done: int, total: int) -> None:
    """Progress of the ranks that say nothing."""


def _print_progress(what: str, done: int, total: int) -> None:
    """A line that rewrites itself on a terminal; else one line when a stage is done."""
    if sys.stderr.isatty():
        print(f"\r{what}: {done}/{total}\033[K", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total:
        print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
