"""`--init-from`: a new run that starts with the weights of another run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from dnnlib.errors import UserError
from networks.patches import PLACE_DIM
from networks.snapshot import Snapshot
from training.checkpoint import PREFIX, read_newest
from training.trainer import Trainer


def start_from(path: str, trainer: Trainer) -> list[str]:
    """Copy the tensors of a snapshot that fit into G and its average -> lines about G and D.

    If `path` is a run folder, the tensors of its newest checkpoint that fit are copied into D. A D
    that reads places (`networks.patches`) takes the text layers of one that does not. The weights
    for places start at 0, so it judges as before (exactly so on frozen features).

    A warning says so if fewer than half of G's tensors fit. Raises `UserError` if no tensor fits G,
    or if no checkpoint of the folder can be read.
    """
    source = Snapshot.from_pretrained(path).generator.state_dict()
    fresh, number = _take(trainer.generator, source), len(trainer.generator.state_dict())
    if len(fresh) == number:
        raise UserError(f"--init-from {path}: no tensor fits this generator")
    _take(trainer.ema.model, source)
    lines = [f"Started from {path}: {_summary('G', trainer.generator, fresh)}"]
    if 2 * len(fresh) > number:
        lines.append("Warning: most of G starts anew; set generator.* to the sizes of that network")
    newest = read_newest(Path(path))
    if newest is None:
        return [
            *lines,
            f"D starts fresh: {path} holds no {PREFIX}*.pt; "
            "give the run folder to take its discriminator too",
        ]
    checkpoint, state = newest
    fresh = _take(trainer.discriminator, _reading_places(state["discriminator"], trainer))
    return [*lines, f"{checkpoint.name}: {_summary('D', trainer.discriminator, fresh)}"]


def _take(model: nn.Module, source: dict[str, torch.Tensor]) -> list[str]:
    """Load the tensors whose name and shape fit the model -> the names of the unchanged tensors."""
    current = model.state_dict()
    fitting = {
        name: value
        for name, value in source.items()
        if name in current and current[name].shape == value.shape
    }
    model.load_state_dict(fitting, strict=False)
    return sorted(current.keys() - fitting.keys())


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


def _summary(player: str, model: nn.Module, fresh: list[str]) -> str:
    """How many tensors of a player were loaded, and the first names of the others, `fresh`."""
    taken = len(model.state_dict()) - len(fresh)
    return f"{taken} tensors of {player} taken, {len(fresh)} new" + (
        f" ({', '.join(fresh[:5])} ...)" if fresh else ""
    )
