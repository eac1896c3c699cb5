"""Exponential moving average of a network's parameters, with its half-life in images and a ramp-up."""

from __future__ import annotations

import copy

import torch
from torch import nn

from training.config import EmaConfig


class Ema:
    """`.model` is the averaged copy: parameters are averaged, buffers copied."""

    def __init__(self, model: nn.Module, config: EmaConfig) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.config = config

    @torch.no_grad()
    def update(self, model: nn.Module, images_seen: int, batch: int) -> None:
        """After a step of `batch` images at `images_seen`: weight 0.5^(batch / half-life) stays on the average."""
        half_life = min(self.config.half_life_kimg * 1000, images_seen * self.config.rampup)
        decay = 0.5 ** (batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for own, new in zip(self.model.buffers(), model.buffers()):
            own.copy_(new)

    def state_dict(self) -> dict:
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state)
