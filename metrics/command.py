"""What the commands of calc_metrics.py share: options, checks of what a user typed, and output.

Importing this module loads nothing heavy, so that wrong words are refused at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.device_options import device_option
from dnnlib.errors import UserError
from dnnlib.seeds import parse_seeds

if TYPE_CHECKING:
    import torch

    from datasets.stylegan import LabelCaptions
    from metrics.measures.base import Evaluation
    from metrics.pictures.reading import Compute
    from metrics.pictures.sources import Sources

DEFAULT_METRICS = "kid_lite2,clip_s_small,clip_s_small_heldout,clip_r_small,scale_x2,tile_exact"
METRICS = click.option(
    "--metrics",
    default=DEFAULT_METRICS,
    show_default=True,
    metavar="A,B,...",
    help="Evaluations; see `list`.",
)
NUM = click.option(
    "--num-images",
    "--num",
    "num",
    type=int,
    metavar="N",
    help="Generated pictures an evaluation; scale_* and tile_exact take it as an upper limit "
    "only.  [default: the evaluation's own]",
)
TRUNC = click.option(
    "--trunc",
    type=float,
    metavar="PSI",
    help="Truncation of the latent.  [default: the evaluation's own]",
)
SIZE = click.option(
    "--size",
    type=click.IntRange(min=8),
    metavar="PX",
    help="Draw pictures of PX x PX, and take PX as the trained resolution in all evaluations.  "
    "[default: the network's trained resolution]",
)


def on_device(command: Callable) -> Callable:
    """Options `device` and `batch_gpu`: where the networks run."""
    command = click.option(
        "--batch-gpu",
        default=32,
        show_default=True,
        type=click.IntRange(min=1),
        metavar="N",
        help="Pictures at once, per rank.",
    )(command)
    return device_option(command)


def labels_of_data(command: Callable) -> Callable:
    """Option `labels`: how captions were made of class labels in training."""

    @click.option(
        "--caption-template",
        default="",
        metavar="TEXT",
        help="As in train.py, for --data with StyleGAN's class labels.",
    )
    @click.option("--class-names", default="", metavar="FILE", help="As in train.py.")
    @functools.wraps(command)
    def with_labels(caption_template: str, class_names: str, **options: Any) -> None:
        from datasets.stylegan import LabelCaptions

        command(labels=LabelCaptions(template=caption_template, names=class_names), **options)

    return with_labels


def local_weights(command: Callable) -> Callable:
    """Option `weights`: local files of detectors."""
    return click.option(
        "--weights",
        multiple=True,
        metavar="NAME=FILE",
        help="Local weight file of a detector: inception, dinov2, alexnet (LPIPS), "
        "open_clip:MODEL/TAG",
    )(command)


def named_evaluations(metrics: str) -> list[Evaluation]:
    """The rows of a list such as "kid_lite2,clip_s". Raises `UserError` for an unknown one."""
    from metrics.evaluations import evaluations_named

    return evaluations_named([name.strip() for name in metrics.split(",") if name.strip()])


def named_evaluation(metrics: str) -> Evaluation:
    """The row of one name. Raises `UserError` for an unknown one, and for several names."""
    first, *others = named_evaluations(metrics)
    if others:
        raise UserError(f"--metrics {metrics}: only one evaluation's pictures are made; name one")
    return first


def seed_blocks(text: str | None) -> list[int | None]:
    """'0-2,5' -> [0, 1, 2, 5]; None -> [None], which is the seed block of the evaluation."""
    return [None] if text is None else [*parse_seeds(text, "--seed")]


def named_sources(
    data: str | None,
    ref: str | None,
    data_large: str | None,
    weights: tuple[str, ...],
    labels: LabelCaptions,
) -> Sources:
    """The files that the options name. Raises `UserError` for one that does not exist."""
    from metrics.pictures.sources import Sources

    pictures, reference, large = (Path(text) if text else None for text in (data, ref, data_large))
    check_files(pictures, reference, large)
    return Sources(pictures, reference, large, weight_files(weights), labels)


def weight_files(pairs: tuple[str, ...]) -> dict[str, Path]:
    """Local files by the name of the detector, from words such as "inception=weights.pth".

    Raises `UserError` for a name under which no evaluation reads a file, and a missing file.
    """
    from dnnlib.config_codec import nearest
    from metrics.evaluations import EVALUATIONS

    families = ("alexnet", "inception", "dinov2", "open_clip")
    detectors = {evaluation.measure.detector or "" for evaluation in EVALUATIONS.values()}
    known = sorted({*families, *(name for name in detectors if name.startswith(families))})
    files = {}
    for pair in pairs:
        name, separator, path = pair.rpartition("=")
        if not separator or not name:
            raise UserError(
                f"--weights {pair}: expected NAME=FILE, for example inception=weights.pth"
            )
        if name not in known:
            raise UserError(f"--weights {pair}: no evaluation reads {name}; {nearest(name, known)}")
        if not Path(path).is_file():
            raise UserError(f"--weights {pair}: no such file {path}")
        files[name] = Path(path)
    return files


def check_files(*paths: Path | None) -> None:
    """Raises `UserError` for a path that does not exist."""
    for path in paths:
        if path is not None and not path.exists():
            raise UserError(f"{path} does not exist")


def served_defaults(evaluations: list[Evaluation], sources: Sources) -> list[Evaluation]:
    """The default evaluations that the data can serve. Raises `UserError` if none is left."""
    from datasets.text_image import TextImageDataset
    from metrics.evaluations import served
    from torch_utils.distributed import is_main

    assert sources.data is not None
    dataset = TextImageDataset(sources.data, split="all", labels=sources.labels)
    kept, others = served(evaluations, dataset.splits, dataset.has_captions)
    lines = [
        f"{', '.join(names)}: --data {sources.data} has no {lack}" for lack, names in others.items()
    ]
    if not kept:
        raise UserError(f"--metrics: the default ones cannot be computed: {'; '.join(lines)}")
    for line in lines if is_main() else ():
        print(f"Left out {line}", file=sys.stderr)
    return kept


def folder_defaults(evaluations: list[Evaluation]) -> list[Evaluation]:
    """The default evaluations that a folder of pictures can have: no network draws for them."""
    from torch_utils.distributed import is_main

    others = [one.name for one in evaluations if one.measure.detector is None]
    if others and is_main():
        print(f"Left out {', '.join(others)}: they need --network", file=sys.stderr)
    return [one for one in evaluations if one.name not in others]


class Output:
    """What rank 0 prints: records on stdout, refusals and cut captions on stderr.

    out: the file of `--out`, which gets the records as well. Raises `UserError` if it holds
    anything else.
    """

    def __init__(self, out: str | None) -> None:
        from dnnlib.files import check_target, make_folder, writing
        from dnnlib.ownership import json_lines_with, refuse_foreign

        ours = json_lines_with("metric", "value")

        self.out = out
        self.refused: dict[str, list[str]] = {}  # names of evaluations by message
        self._limits: dict[str, int] = {}  # tokens that are read, by caption that is too long
        if out and Path(out).exists():
            refuse_foreign(out, ours)
            with writing(out), open(out, "ab"):
                pass
        elif out:
            check_target(out, ours)
            make_folder(Path(out).parent)

    def refuse(self, evaluation: Evaluation, error: UserError) -> None:
        """An evaluation cannot be computed."""
        self.refused.setdefault(str(error), []).append(evaluation.name)

    def cut(self, captions: list[str], limit: int) -> None:
        """Of these captions only `limit` tokens are read."""
        self._limits.update(dict.fromkeys(captions, limit))

    def write(self, record: dict[str, Any]) -> None:
        """A record is known."""
        from dnnlib.files import append_json_line
        from torch_utils.distributed import is_main

        if not is_main():
            return
        print(json.dumps(record, allow_nan=False, ensure_ascii=False), flush=True)
        if self.out:
            append_json_line(self.out, record)

    def sum_up(self, evaluations: list[Evaluation]) -> None:
        """After the last record: one line for each refusal, and how many were scored."""
        from networks.text_encoders.limits import told_cut
        from torch_utils.distributed import is_main

        if not is_main():
            return
        if self._limits:
            print(told_cut(self._limits, max(self._limits.values())), file=sys.stderr)
        for message, names in self.refused.items():
            print(f"Error: {', '.join(dict.fromkeys(names))}: {message}", file=sys.stderr)
        refused = {name for names in self.refused.values() for name in names}
        missing = [row.name for row in evaluations if row.name in refused]
        if missing and len(evaluations) > 1:
            print(
                f"{len(evaluations) - len(missing)} of {len(evaluations)} evaluations scored; "
                f"not scored: {', '.join(missing)}",
                file=sys.stderr,
            )


def print_progress(what: str, done: int, total: int) -> None:
    """A line that rewrites itself on a terminal; elsewhere one line when a stage is done."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{what}: {done}/{total}\033[K", end=end, file=sys.stderr, flush=True)
    elif done == total:
        print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)


def chosen_device(name: str, ops: str | None = None) -> torch.device:
    """The device of `--device`. Raises `UserError` if it is not there.

    With `ops` it also chooses the operators of `--ops`, and raises if they are not there.
    """
    from torch_utils.distributed import resolve_device
    from torch_utils.local_ranks import use_one_thread
    from torch_utils.ops import check_backend

    use_one_thread()
    device = resolve_device(name)
    if ops is not None:
        check_backend(ops, device)
    return device


def chosen_cache(cache: str) -> Path | None:
    """The folder of --cache, or the user's cache folder; the same on every rank."""
    from dnnlib.files import cache_folder, user_cache_folder
    from torch_utils.distributed import from_main, is_main

    return from_main(cache_folder(cache, user_cache_folder()) if is_main() else None)


@contextlib.contextmanager
def computing(device: torch.device, batch_gpu: int) -> Iterator[Compute]:
    """All ranks together. Only rank 0 prints progress, and memory errors name the remedy."""
    from metrics.pictures.reading import Compute, silent
    from torch_utils.distributed import is_main, process_group
    from torch_utils.memory import memory_errors

    with process_group(device), memory_errors("lower --batch-gpu"):
        yield Compute(device, batch_gpu, print_progress if is_main() else silent)
