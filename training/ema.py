"""Exponential moving average of a network's parameters, with its half-life in images and a ramp-up."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

from training.config import EmaConfig

Model = TypeVar("Model", bound=nn.Module)


class Ema(Generic[Model]):
    """`.model` is the averaged copy: parameters are averaged, buffers copied."""

    def __init__(self, model: Model, config: EmaConfig) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.config = config

    def decay(self, images_seen: int, batch: int) -> float:
        """What stays of an average after a step of `batch` images at `images_seen`: 0.5^(batch / half-life)."""
        half_life = min(self.config.half_life_kimg * 1000, images_seen * self.config.rampup)
        return 0.5 ** (batch / max(half_life, 1e-8))

    @torch.no_grad()
    def update(self, model: nn.Module, images_seen: int, batch: int) -> None:
        """After a step of `batch` images at `images_seen`."""
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - self.decay(images_seen, batch))
        for own, new in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(new)

    def state_dict(self) -> dict:
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state)
