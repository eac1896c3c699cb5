"""`--init-from`: a run that starts from another one's weights (transfer, not resuming)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from dnnlib.errors import UserError
from networks.snapshot import Snapshot
from training.checkpoint import PREFIX, read_newest
from training.trainer import Trainer


def start_from(path: str, trainer: Trainer) -> list[str]:
    """Copy what fits of a snapshot into G and its average and, where `path` is a run folder, of its newest state into D; a
    line on each player. Raises `UserError` when nothing fits G or no state can be read.
    """
    source = Snapshot.from_pretrained(path).generator.state_dict()
    fresh = _take(trainer.generator, source)
    if len(fresh) == len(trainer.generator.state_dict()):
        raise UserError(f"--init-from {path}: no tensor fits this generator")
    _take(trainer.ema.model, source)
    lines = [f"Started from {path}: {_summary('G', trainer.generator, fresh)}"]
    found = read_newest(Path(path))
    if found is None:
        return [
            *lines,
            f"D starts fresh: {path} holds no {PREFIX}*.pt; give the run folder to take its discriminator too",
        ]
    state, fresh = found[0], _take(trainer.discriminator, found[1]["discriminator"])
    return [*lines, f"{state.name}: {_summary('D', trainer.discriminator, fresh)}"]


def _take(model: nn.Module, source: dict[str, torch.Tensor]) -> list[str]:
    """Load the tensors whose name and shape fit; the names of those that stay as they are."""
    own = model.state_dict()
    fitting = {
        name: value
        for name, value in source.items()
        if name in own and own[name].shape == value.shape
    }
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


def _summary(player: str, model: nn.Module, fresh: list[str]) -> str:
    taken = len(model.state_dict()) - len(fresh)
    return f"{taken} tensors of {player} taken, {len(fresh)} new" + (
        f" ({', '.join(fresh[:5])} ...)" if fresh else ""
    )
