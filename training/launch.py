"""Preparation of a training run: device, ranks, run folder, data set and text encoder."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import json
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from datasets.loader import worker_errors
from datasets.shard_loader import ShardDataset
from datasets.shard_stream import is_shards
from datasets.stylegan import NO_CAPTIONS
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
from networks.interfaces import ImageTextEncoder, TextEncoder
from networks.layers.minibatch_stddev import group_of
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
from training.evaluation import served_metrics
from training.memory_estimate import advice
from training.training_loop import TrainingLoop


def run(config: TrainConfig, run_dir: Path, *, metrics_asked: bool = True) -> bool:
    """Start or resume the run in `run_dir` -> whether it reached its end; call it on every rank.

    metrics_asked: whether the user chose the metrics. Metrics of the recipe's default that the data
        set does not allow are left out, and a line says so. Metrics that the user chose are an
        error then.

    Returns False if a signal has stopped the run. Raises `UserError` for mistakes of the user, on
    every rank.
    """
    faulthandler.enable()
    device = resolve_device(config.device)
    if not checkpoints(run_dir):
        refuse_at_start(config)
    dataset = open_dataset(config)
    config, left_out = served_metrics(config, dataset, metrics_asked)
    config = config.resolved()
    check_backend(config.ops, device)
    if "wandb" in config.report_to and importlib.util.find_spec("wandb") is None:
        raise UserError(
            "--report-to wandb: the package is not installed; pip install wandb, or leave it out"
        )
    with process_group(device), contextlib.ExitStack() as stack:
        size, _ = config.micro_batches(world_size())
        on_main(lambda: enter(run_dir, stack))
        if lines := [*left_out, *smaller_groups(config, size)]:
            on_main(lambda: print(*lines, sep="\n"))
        encoder = load_encoder(config.text_encoder, device) if config.needs_encoder else None
        if (config.loss.cond or config.loss.cong) and not isinstance(encoder, ImageTextEncoder):
            raise UserError(
                f"text_encoder {config.text_encoder!r} has no image tower, which loss.cond and "
                "loss.cong need; use small or open_clip:..., or set both to 0"
            )
        assert encoder is None or encoder_widths(config.text_encoder) == (
            encoder.sentence_dim,
            encoder.word_dim,
        )
        on_main(lambda: compare_options(config, run_dir))
        on_main(lambda: tell_cut(encoder, config, dataset))
        cache_dir = feature_cache(config, run_dir)
        text_encoder = cached(encoder, config, dataset, cache_dir)
        if resolve(device, config.precision) == "fp32":
            stack.enter_context(no_tf32())
        with worker_errors(), memory_errors(partial(advice, config, world_size())):
            loop = TrainingLoop(config, run_dir, dataset, encoder, text_encoder, device, cache_dir)
            resumed = loop.resume()
            on_main(lambda: keep_options(config, run_dir, loop.trainer.progress.images))
            return loop.run(resumed)


def smaller_groups(config: TrainConfig, size: int) -> list[str]:
    """A warning if D has to compare fewer images than its config says; else [].

    size: images of one forward pass of a rank (`TrainConfig.micro_batches`).
    """
    wanted = getattr(config.discriminator, "group_size", 1)
    if (group := group_of(size, wanted)) == wanted:
        return []
    return [
        f"Warning: D compares groups of {group}, not of discriminator.group_size={wanted} images, "
        f"because a rank reads {size} at once. Small groups cost variety: start fewer ranks, or "
        f"choose a --batch and a --batch-gpu that give each a multiple of {wanted}"
    ]


OPTIONS = "training_options.json"
# The names of the files that a run writes. Files of other names are never touched.
_WRITTEN = re.compile(
    r"stats\.jsonl|log\.txt|reals\.png|fakes\d{6,}\.png|metric-.*\.jsonl|network-snapshot-\d{6,}|"
    r"training-state-\d{6,}\.pt|averages-\d{6,}\.safetensors"
)


def run_folder_fault(run_dir: Path) -> str | None:
    """The rule of `dnnlib.ownership` for run folders.

    A folder is ours if it holds our options, in training_options.json or in a checkpoint; if a
    start of a run failed in it; or if it holds no file that a run would write.
    """
    if not run_dir.is_dir():
        return None  # creating the folder will raise an error
    if options_in(run_dir) is not None:
        return None
    if (run_dir / OPTIONS).exists():
        fault = json_with("recipe", "generator", "text_encoder")(run_dir / OPTIONS)
        return fault and f"holds the {OPTIONS} of another program"
    written = sorted(path.name for path in run_dir.iterdir() if _WRITTEN.fullmatch(path.name))
    # A failed start leaves only the lock and log.txt.
    foreign = [name for name in written if name != "log.txt" or not (run_dir / LOCK).exists()]
    return f"holds {listing(foreign)}, but no {OPTIONS} of ours" if foreign else None


def enter(run_dir: Path, stack: contextlib.ExitStack) -> None:
    """Prepare the run folder: lock it until `stack` closes, clean it, and copy output to log.txt.

    Cleaning deletes the half-written files of a killed run. Raises `UserError` if the folder holds
    files of other programs that a run would replace, or records of a run without a checkpoint.
    """
    refuse_foreign(run_dir, run_folder_fault)
    if not checkpoints(run_dir) and read_json_lines(run_dir / "stats.jsonl"):
        raise UserError(
            f"{run_dir} holds the records of a run but no training-state-*.pt to resume from, and "
            "a new start would erase them; restore the training-state-*.pt, or give another "
            "--outdir (with --init-from to take the weights of this run)"
        )
    make_folder(run_dir)
    stack.enter_context(locked(run_dir))
    remove_leftovers(run_dir, exclusive=True)
    stack.enter_context(tee_to(run_dir / "log.txt"))


def refuse_at_start(config: TrainConfig) -> None:
    """Raise `UserError` for fields that a new run would ignore, or that do not fit each other.

    Earlier versions started runs with such fields, and those runs can still be resumed.
    """
    if config.augment.mode == "fixed" and not config.augment.p:
        raise UserError(
            "augment.p: is 0, so augment.mode=fixed changes no picture; add --set augment.p=0.5, "
            "or train without augmentation by --aug noaug"
        )
    if config.reads_text and not config.discriminator.sentence_dim:
        raise UserError(
            "discriminator.sentence_dim: is 0, but the discriminator reads the text that the "
            "generator reads; leave it out, or train without text by --cond false"
        )
    if config.loss.style_mixing and getattr(config.generator, "num_tokens", 1) == 1:
        raise UserError(
            "loss.style_mixing: the generator has one style code, so there is none to mix; add "
            "--set loss.style_mixing=0"
        )
    if config.start_resolution and not config.start_kimg:
        raise UserError(
            "start_resolution: has no effect with start_kimg=0; add --set start_kimg=20, or leave "
            "it out"
        )
    if config.patches.side and getattr(config.generator, "convention", "centers") != "centers":
        raise UserError(
            "patches.side: real patches are sampled at the centres of pixels, but "
            "generator.convention=endpoints draws at end points; add --set "
            "generator.convention=centers, or leave --patch out"
        )


def open_dataset(config: TrainConfig) -> TextImageDataset | ShardDataset:
    """Open the train split of the data set, or its shards.

    Raises `UserError` if the pictures do not have the recipe's resolution or are smaller than its
    patches, and if captions are missing that the recipe reads.
    """
    if not config.data:
        raise UserError(
            "--data is missing; build an archive with dataset_tool.py and name it, "
            "e.g. --data data/openmoji64.zip"
        )
    if is_shards(config.data):
        if config.labels != NO_CAPTIONS:
            raise UserError(
                f"--caption-template: the shards of --data {config.data} have no class labels; "
                "leave it out"
            )
        return ShardDataset(config.data, config.reads_text, config.judged_side)
    dataset = TextImageDataset(config.data, split="train", labels=config.labels)
    if config.patches.side:
        dataset.framed(config.patches.side)  # raises where a picture is smaller
    elif dataset.resolution != (config.resolution, config.resolution):
        width, height = dataset.resolution
        raise UserError(
            f"--data {config.data}: pictures are {width}x{height}, recipe {config.recipe} wants "
            f"{config.resolution}x{config.resolution}; make the data set again with "
            f"--resolution {config.resolution}x{config.resolution} (or train on patches of larger "
            f"pictures: --patch {config.resolution})"
        )
    if config.reads_text and not dataset.has_captions:
        raise UserError(
            f"--data {config.data}: the pictures have no captions, which recipe "
            f"{config.recipe} reads; import captions with them (dataset_tool.py folder), make "
            "captions of StyleGAN's class labels (--caption-template), or train without text "
            "(--cond false)"
        )
    return dataset


def feature_cache(config: TrainConfig, run_dir: Path) -> Path:
    """The folder for cached features, the same on every rank.

    It lies beside the data, or in the run folder if this process cannot write beside the data.
    """
    if is_shards(config.data):
        return run_dir / ".cache"  # nothing is computed ahead of a stream
    return from_main(
        cache_folder(Path(config.data).parent / ".cache", run_dir / ".cache") if is_main() else None
    )


def cached(
    encoder: TextEncoder | None,
    config: TrainConfig,
    dataset: TextImageDataset | ShardDataset,
    cache_dir: Path,
) -> TextEncoder | None:
    """Return the text encoder; with `text_cache`, one that reads the captions' features from disk.

    Rank 0 computes the features first, and the other ranks then read them. The captions of shards
    are not known ahead, so the encoder computes their features in every step.
    """
    known = isinstance(dataset, TextImageDataset)
    if encoder is None or not (config.text_cache and config.reads_text and known):
        return encoder
    captions = [caption for i in range(len(dataset)) for caption in dataset.captions(i)]
    on_main(lambda: CachedTextEncoder.build(encoder, captions, cache_dir))
    return CachedTextEncoder.build(encoder, captions, cache_dir)


def tell_cut(
    encoder: TextEncoder | None, config: TrainConfig, dataset: TextImageDataset | ShardDataset
) -> None:
    """Print a line about captions that are longer than the encoder reads, if the run reads text.

    Of shards, the first captions are looked at.
    """
    if config.reads_text:
        line = cut_line(
            encoder,
            (caption for index in range(len(dataset)) for caption in dataset.captions(index)),
        )
        if line:
            print(line)


def compare_options(config: TrainConfig, run_dir: Path) -> None:
    """If the run is resumed, print the options that have changed.

    Raises `UserError` if an option has changed that must stay the same in a run.
    """
    if checkpoints(run_dir):
        changes = differences(to_dict(earlier_config(run_dir)), to_dict(config))
        refused = [
            change
            for change in changes
            if change.name not in RESUMABLE and change.name.split(".")[0] not in RESUMABLE
        ]
        if refused:
            raise UserError(
                f"{run_dir} holds a run with another {_listed(refused)}; to resume it, add "
                f"{_flags(refused)}, else give another --outdir"
            )
        if changes:
            print(f"Changed since the last start: {_listed(changes)}.")


def keep_options(config: TrainConfig, run_dir: Path, images: int) -> None:
    """Write training_options.json, once the run has started or resumed after `images` images.

    A line is printed if the learning rates jump there, as with a larger kimg.
    """
    if checkpoints(run_dir):
        before, now = earlier_config(run_dir).lr_scale(images), config.lr_scale(images)
        if before != now:
            print(
                f"The learning rates go from {before:.3g} to {now:.3g} of their full values, "
                f"because they fall over the last {config.lr_decay:g} of the new kimg."
            )
    write_json(run_dir / OPTIONS, to_dict(config), ours=in_our_folder)


def earlier_config(run_dir: Path) -> TrainConfig:
    """The options of the run in `run_dir`, from its newest checkpoint.

    Checkpoints of earlier versions hold no options; then training_options.json is read. Fields that
    were added since get their defaults, which describe what the code did before. Raises `UserError`
    for options that this version cannot read.
    """
    before = options_in(run_dir) or read_json(run_dir / OPTIONS)
    try:
        return from_dict(TrainConfig, before, "options")
    except UserError as error:
        raise UserError(
            f"{run_dir} holds a run of another version of this code ({error}); finish "
            "it with that one, or give another --outdir"
        ) from None


class Change(NamedTuple):
    """A changed field of the options: its dotted name, its old and its new value."""

    name: str
    old: Any
    new: Any


def differences(old: Any, new: Any, name: str = "") -> list[Change]:
    """List the fields that differ between nested options.

    Parts of different `kind` count as one changed field.
    """
    nested = isinstance(old, dict) and isinstance(new, dict) and old.get("kind") == new.get("kind")
    if nested:
        return [
            change
            for key in new
            for change in differences(old.get(key), new[key], f"{name}.{key}" if name else key)
        ]
    return [Change(name, old, new)] if old != new else []


def _listed(changes: list[Change]) -> str:
    """The changes as 'name (old, now new), ...'."""

    def shown(value: Any) -> str:
        return repr(value.get("kind", value) if isinstance(value, dict) else value)

    return ", ".join(f"{name} ({shown(old)}, now {shown(new)})" for name, old, new in changes)


def _flags(changes: list[Change]) -> str:
    """The flags of a command line that undo the changes."""
    if changes[0].name == "recipe":
        return f"--recipe {shlex.quote(changes[0].old)}"
    return " ".join(f"--set {shlex.quote(f'{name}={json.dumps(old)}')}" for name, old, _ in changes)
