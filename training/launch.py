"""From a resolved config to a running loop: device, ranks, run folder, data, text encoder."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from datasets.text_image import TextImageDataset
from dnnlib.config_codec import from_dict, to_dict
from dnnlib.console import tee_to
from dnnlib.errors import UserError
from dnnlib.files import (
    LOCK,
    cache_folder,
    locked,
    make_folder,
    read_json,
    read_json_lines,
    remove_leftovers,
    write_json,
)
from dnnlib.names import listing
from dnnlib.ownership import in_our_folder, json_with, refuse_foreign
from metrics.protocols import protocols_named, served
from networks.interfaces import ImageTextEncoder, TextEncoder
from networks.text_encoders import encoder_widths, load_encoder
from networks.text_encoders.cache import CachedTextEncoder
from networks.text_encoders.limits import cut_line
from torch_utils.distributed import (
    from_main,
    is_main,
    on_main,
    process_group,
    resolve_device,
    world_size,
)
from torch_utils.memory import memory_errors
from torch_utils.ops import check_backend
from torch_utils.precision import no_tf32, resolve
from training.checkpoint import checkpoints, options_in
from training.config import RESUMABLE, TrainConfig
from training.training_loop import TrainingLoop


def run(config: TrainConfig, run_dir: Path, *, metrics_asked: bool = True) -> bool:
    """Train, or go on training, in `run_dir`; False when stopped before the end. Call on every rank.

    metrics_asked: whether the user chose the metrics. Those that a recipe merely brings along are
    left out, with a line, where the data cannot serve them. Raises `UserError` for what a user can
    mend, on every rank alike.
    """
    faulthandler.enable()
    device = resolve_device(config.device)
    dataset = open_dataset(config)
    config, left_out = served_metrics(config, dataset, metrics_asked)
    config = config.resolved()
    check_backend(config.ops, device)
    if "wandb" in config.report_to and importlib.util.find_spec("wandb") is None:
        raise UserError(
            "--report-to wandb: the package is not installed; pip install wandb, or leave it out"
        )
    with process_group(device), contextlib.ExitStack() as stack:
        config.micro_batches(world_size())
        on_main(lambda: enter(run_dir, stack))
        if left_out:
            on_main(lambda: print(*left_out, sep="\n"))
        encoder = load_encoder(config.text_encoder, device) if config.needs_encoder else None
        if (config.loss.cond or config.loss.cong) and not isinstance(encoder, ImageTextEncoder):
            raise UserError(
                f"text_encoder {config.text_encoder!r} has no image tower, which loss.cond and loss.cong "
                "need; use small or open_clip:..., or set both to 0"
            )
        assert encoder is None or encoder_widths(config.text_encoder) == (
            encoder.sentence_dim,
            encoder.word_dim,
        )
        on_main(lambda: keep_options(config, run_dir))
        on_main(lambda: tell_cut(encoder, config, dataset))
        cache_dir = feature_cache(config, run_dir)
        text_encoder = cached(encoder, config, dataset, cache_dir)
        if resolve(device, config.precision) == "fp32":
            stack.enter_context(no_tf32())
        with memory_errors("give a smaller --batch-gpu; --batch stays and the rest accumulates"):
            return TrainingLoop(
                config, run_dir, dataset, encoder, text_encoder, device, cache_dir
            ).run()


OPTIONS = "training_options.json"
# What a run writes; files of other names are never touched.
_WRITTEN = re.compile(
    r"stats\.jsonl|log\.txt|reals\.png|fakes\d{6,}\.png|metric-.*\.jsonl|network-snapshot-\d{6,}|"
    r"training-state-\d{6,}\.pt|averages-\d{6,}\.safetensors"
)


def run_folder_fault(run_dir: Path) -> str | None:
    """The rule of ownership (`dnnlib.ownership`) for run folders: our options, alone or in a state,
    a failed start, or nothing a run would write.
    """
    if not run_dir.is_dir():
        return None  # making it says what is wrong
    if options_in(run_dir) is not None:
        return None
    if (run_dir / OPTIONS).exists():
        fault = json_with("recipe", "generator", "text_encoder")(run_dir / OPTIONS)
        return fault and f"holds the {OPTIONS} of another program"
    written = sorted(path.name for path in run_dir.iterdir() if _WRITTEN.fullmatch(path.name))
    # A start that failed leaves lock and log.
    foreign = [name for name in written if name != "log.txt" or not (run_dir / LOCK).exists()]
    return f"holds {listing(foreign)}, but no {OPTIONS} of ours" if foreign else None


def enter(run_dir: Path, stack: contextlib.ExitStack) -> None:
    """Make the run folder ours until `stack` closes: its lock, what a killed run left half-written,
    its log.

    Raises `UserError` where it holds files of others that a run would replace, or records without a
    state to resume.
    """
    refuse_foreign(run_dir, run_folder_fault)
    if not checkpoints(run_dir) and read_json_lines(run_dir / "stats.jsonl"):
        raise UserError(
            f"{run_dir} holds the records of a run but no training-state-*.pt to go on "
            "from, and starting afresh would erase them; restore the state, or give "
            "another --outdir (with --init-from to take its weights)"
        )
    make_folder(run_dir)
    stack.enter_context(locked(run_dir))
    remove_leftovers(run_dir, exclusive=True)
    stack.enter_context(tee_to(run_dir / "log.txt"))


def open_dataset(config: TrainConfig) -> TextImageDataset:
    """The train split, whose pictures must have the recipe's size, and captions if it reads text.

    Raises `UserError`.
    """
    if not config.data:
        raise UserError(
            "--data is missing; build an archive with dataset_tool.py and name it, e.g. --data data/openmoji64.zip"
        )
    dataset = TextImageDataset(config.data, split="train", labels=config.labels)
    if dataset.resolution != (config.resolution, config.resolution):
        width, height = dataset.resolution
        raise UserError(
            f"--data {config.data}: pictures are {width}x{height}, recipe {config.recipe} wants "
            f"{config.resolution}x{config.resolution}; make the data set again with "
            f"--resolution {config.resolution}x{config.resolution}"
        )
    if config.reads_text and not dataset.has_captions:
        raise UserError(
            f"--data {config.data}: the pictures have no captions, which recipe "
            f"{config.recipe} reads; import captions with them (dataset_tool.py "
            "folder), make captions of StyleGAN's class labels (--caption-template), "
            "or train without text (--cond false)"
        )
    return dataset


def served_metrics(
    config: TrainConfig, dataset: TextImageDataset, asked: bool
) -> tuple[TrainConfig, list[str]]:
    """The config with those metrics that the data can serve, and lines that name the others.

    Raises `UserError` for the others if the user asked for the metrics.
    """
    protocols = protocols_named(config.metrics) if config.metrics else []
    kept, others = served(protocols, dataset.splits, dataset.has_captions)
    lines = [
        f"{', '.join(names)}: --data {config.data} has no {lack}" for lack, names in others.items()
    ]
    if lines and asked:
        raise UserError(f"--metrics {lines[0]}, or train with --metrics none")
    metrics = tuple(protocol.name for protocol in kept)
    return replace(config, metrics=metrics), [f"Left out {line}" for line in lines]


def feature_cache(config: TrainConfig, run_dir: Path) -> Path:
    """Beside the data, or in the run folder where one cannot write there; the same on every rank."""
    return from_main(
        cache_folder(Path(config.data).parent / ".cache", run_dir / ".cache") if is_main() else None
    )


def cached(
    encoder: TextEncoder | None, config: TrainConfig, dataset: TextImageDataset, cache_dir: Path
) -> TextEncoder | None:
    """The encoder, answering the data set's captions from disk where `text_cache` asks for it; rank 0 builds it."""
    if encoder is None or not (config.text_cache and config.reads_text):
        return encoder
    captions = [caption for i in range(len(dataset)) for caption in dataset.captions(i)]
    on_main(lambda: CachedTextEncoder.build(encoder, captions, cache_dir))
    return CachedTextEncoder.build(encoder, captions, cache_dir)


def tell_cut(encoder: TextEncoder | None, config: TrainConfig, dataset: TextImageDataset) -> None:
    """A line about the captions that the encoder does not read to their end, where text is read."""
    if config.reads_text:
        line = cut_line(
            encoder,
            (caption for index in range(len(dataset)) for caption in dataset.captions(index)),
        )
        if line:
            print(line)


def keep_options(config: TrainConfig, run_dir: Path) -> None:
    """Write training_options.json; where there is a state to resume, say what changes.

    Raises `UserError` for changes that would make it another run.
    """
    options = to_dict(config)
    if checkpoints(run_dir):
        changes = differences(earlier_options(run_dir), options)
        bound = [change for change in changes if change.name.split(".")[0] not in RESUMABLE]
        if bound:
            raise UserError(
                f"{run_dir} holds a run with another {_told(bound)}; to resume it, add "
                f"{_flags(bound)}, else give another --outdir"
            )
        if changes:
            print(f"Changed since the last start: {_told(changes)}.")
    write_json(run_dir / OPTIONS, options, ours=in_our_folder)


def earlier_options(run_dir: Path) -> dict[str, Any]:
    """The options of the run in `run_dir`: those in its newest state, or in training_options.json
    for a state that was written before states held them.

    Fields that were added since have their defaults: before them, code did as these say. Raises
    `UserError` for options of another version of this code.
    """
    before = options_in(run_dir) or read_json(run_dir / OPTIONS)
    try:
        return to_dict(from_dict(TrainConfig, before, "options"))
    except UserError as error:
        raise UserError(
            f"{run_dir} holds a run of another version of this code ({error}); finish "
            "it with that one, or give another --outdir"
        ) from None


class Change(NamedTuple):
    """A field by its dotted name, with its value before and now."""

    name: str
    old: Any
    new: Any


def differences(old: Any, new: Any, name: str = "") -> list[Change]:
    """What differs between nested options; parts of different kinds differ as a whole."""
    nested = isinstance(old, dict) and isinstance(new, dict) and old.get("kind") == new.get("kind")
    if nested:
        return [
            change
            for key in new
            for change in differences(old.get(key), new[key], f"{name}.{key}" if name else key)
        ]
    return [Change(name, old, new)] if old != new else []


def _told(changes: list[Change]) -> str:
    def shown(value: Any) -> str:
        return repr(value.get("kind", value) if isinstance(value, dict) else value)

    return ", ".join(f"{name} ({shown(old)}, now {shown(new)})" for name, old, new in changes)


def _flags(changes: list[Change]) -> str:
    """The part of a command line that undoes the changes."""
    if changes[0].name == "recipe":
        return f"--recipe {shlex.quote(changes[0].old)}"
    return " ".join(f"--set {shlex.quote(f'{name}={json.dumps(old)}')}" for name, old, _ in changes)
