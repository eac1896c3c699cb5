"""Moving averages of a network's parameters: the one that is used, with its half-life in images and
a ramp-up, and power-function averages, from which other lengths are made after training.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

from training.config import EmaConfig
from training.power_profiles import exponent_of

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
        torch._foreach_lerp_(
            list(self.model.parameters()),
            list(model.parameters()),
            1 - self.decay(images_seen, batch),
        )
        for own, new in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(new)

    def state_dict(self) -> dict:
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state)


class PowerAverages:
    """Power-function averages of the parameters of a network, one for each relative length.

    Karras et al. 2024 (`training.power_profiles`): after a step of `batch` images at T images,
    average = beta average + (1 - beta) parameters with beta = (1 - batch / T)^(g + 1), which is the
    exact integral of the profile for parameters that stay as they are within a step. T counts the
    images of those steps that were taken: a step that was skipped changes nothing. Before the first
    step there is no average, and the tensors are 0.

    averages: {sigma_rel: {name of the parameter: its average, float32}}; images []: T, int64 on the
    network's device, so that nothing waits to learn of it.
    """

    def __init__(self, model: nn.Module, sigma_rels: tuple[float, ...]) -> None:
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        self.averages = {
            sigma_rel: {name: torch.zeros_like(p) for name, p in parameters.items()}
            for sigma_rel in sigma_rels
        }
        self.exponents = [exponent_of(sigma_rel) for sigma_rel in sigma_rels]
        device = next(iter(parameters.values())).device
        self.images = torch.zeros((), dtype=torch.long, device=device)

    @torch.no_grad()
    def update(self, model: nn.Module, batch: int, taken: torch.Tensor) -> None:
        """After a step of `batch` images; taken [], bool: whether it changed the parameters."""
        if not self.averages:
            return
        parameters: list[torch.Tensor] = list(model.parameters())
        self.images += batch * taken
        log_kept = torch.log1p(-batch / self.images)  # exact where batch / T is tiny
        for exponent, average in zip(self.exponents, self.averages.values(), strict=True):
            weight = -torch.expm1((exponent + 1) * log_kept)
            weight = torch.where(taken, weight, 0.0)
            own = list(average.values())
            change = torch._foreach_sub(parameters, own)
            torch._foreach_mul_(change, weight)
            torch._foreach_add_(own, change)

    def state_dict(self) -> dict:
        return {"images": self.images, "averages": self.averages}

    def load_state_dict(self, state: dict) -> None:
        """Raises `KeyError` for other lengths or parameters."""
        self.images.copy_(state["images"])
        for sigma_rel, average in self.averages.items():
            for name, own in average.items():
                own.copy_(state["averages"][sigma_rel][name])
