"""`--init-from`: a new run that starts with the weights of another run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from dnnlib.errors import UserError
from dnnlib.weight_files import load_weights
from networks.hub_snapshots import DISCRIMINATOR, is_on_hub
from networks.patches import PLACE_DIM
from networks.snapshot import Snapshot
from networks.snapshot_folders import snapshot_folder
from training.checkpoint import PREFIX, read_newest
from training.trainer import Trainer


class FoundDiscriminator(NamedTuple):
    """D's weights by name, and the name of the file that held them."""

    file: str
    tensors: dict[str, torch.Tensor]


def find_discriminator(path: str | Path) -> FoundDiscriminator | None:
    """The discriminator that was trained with a generator; None where it was not kept.

    path: as for `Snapshot.from_pretrained`. A run folder gives D of its newest checkpoint, a
    snapshot gives its `discriminator.safetensors`, which only published snapshots hold.
    `Snapshot.push_to_hub(..., discriminator=find_discriminator(run).tensors)` publishes it.

    Raises `UserError` for a damaged file, or if no checkpoint of the folder can be read.
    """
    newest = read_newest(Path(path))
    if newest is not None:
        checkpoint, state = newest
        return FoundDiscriminator(checkpoint.name, state["discriminator"])
    file = snapshot_folder(path, discriminator=True) / DISCRIMINATOR
    if not file.exists():
        return None
    return FoundDiscriminator(file.name, load_weights(file))


def start_from(path: str, trainer: Trainer) -> list[str]:
    """Copy the tensors of a snapshot that fit into G and its average -> lines about G and D.

    The tensors of `find_discriminator` that fit are copied into D. A D that reads places
    (`networks.patches`) takes the text layers of one that does not. The weights for places start at
    0, so it judges as before (exactly so on frozen features).

    A warning says so if fewer than half of G's tensors fit, or if the snapshot was trained with
    another text encoder. Raises `UserError` if no tensor fits G, if a file cannot be read, or if
    the snapshot is a teacher with another text encoder.
    """
    snapshot = Snapshot.from_pretrained(path)
    source = snapshot.generator.state_dict()
    taken, number = _take(trainer.generator, source), len(trainer.generator.state_dict())
    if len(taken.fresh) == number:
        raise UserError(f"--init-from {path}: no tensor fits this generator")
    _take(trainer.ema.model, source)
    lines = [f"Started from {path}: {_summary('G', number, taken)}"]
    lines += _other_encoder(path, snapshot, trainer)
    if 2 * len(taken.fresh) > number:
        lines.append("Warning: most of G starts anew; set generator.* to the sizes of that network")
    found = find_discriminator(path)
    if found is None:
        hint = "give the run folder to take its discriminator too"
        if is_on_hub(path):
            hint = "a copy in the Hub's cache may lack the latter until the Hub can be reached"
        missing = f"{path} holds no {PREFIX}*.pt and no {DISCRIMINATOR}"
        return [*lines, f"D starts fresh: {missing}; {hint}"]
    taken = _take(trainer.discriminator, _reading_places(found.tensors, trainer))
    number = len(trainer.discriminator.state_dict())
    return [*lines, f"{found.file}: {_summary('D', number, taken)}"]


def _other_encoder(path: str, snapshot: Snapshot, trainer: Trainer) -> list[str]:
    """A warning if a snapshot was trained with other text features than the trainer reads; else [].

    Raises `UserError` if the snapshot is the teacher, which has never read such features.
    """
    encoder = trainer.encoder
    if encoder is None or snapshot.encoder_id in ("", encoder.id):
        return []
    line = (
        f"{path} was trained with the text encoder {snapshot.encoder_id}, but this run has "
        f"text_encoder={trainer.config.text_encoder}, which is {encoder.id}"
    )
    if trainer.config.loss.teacher:
        raise UserError(f"loss.teacher: {line}; take the encoder of the teacher")
    return [f"Warning: {line}. G has to learn the text anew"]


class _Taken(NamedTuple):
    """Names of a model's tensors that did not change, and of given tensors that fitted nowhere."""

    fresh: list[str]
    unused: list[str]


def _take(model: nn.Module, source: dict[str, torch.Tensor]) -> _Taken:
    """Load the tensors whose name and shape fit the model."""
    current = model.state_dict()
    fitting = {
        name: value
        for name, value in source.items()
        if name in current and current[name].shape == value.shape
    }
    model.load_state_dict(fitting, strict=False)
    return _Taken(sorted(current.keys() - fitting.keys()), sorted(source.keys() - fitting.keys()))


def _reading_places(source: dict[str, torch.Tensor], trainer: Trainer) -> dict[str, torch.Tensor]:
    """The same tensors of D, with columns of 0 where the layers of the trainer's D read places."""
    if not trainer.config.patches.side:
        return source
    current = trainer.discriminator.state_dict()
    return {
        name: functional.pad(value, (0, PLACE_DIM))
        if name in current
        and value.ndim == 2
        and current[name].shape == (value.shape[0], value.shape[1] + PLACE_DIM)
        else value
        for name, value in source.items()
    }


def _summary(player: str, number: int, taken: _Taken) -> str:
    """How many of the tensors of a player were loaded, and the first names of the others."""
    text = f"{number - len(taken.fresh)} tensors of {player} taken, {len(taken.fresh)} new"
    if taken.fresh:
        text += f" ({', '.join(taken.fresh[:5])} ...)"
    if taken.unused:
        text += f", {len(taken.unused)} not used ({', '.join(taken.unused[:5])} ...)"
    return text
