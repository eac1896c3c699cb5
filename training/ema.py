"""Moving averages of a network's parameters.

`Ema` is the exponential moving average that makes pictures; its half-life is given in images and
ramps up. `PowerAverages` are power-function averages, from which averages of other lengths are made
after training.
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
    """Exponential moving average of a network.

    `model` is a copy with averaged parameters; its buffers are copied from the network.
    """

    def __init__(self, model: Model, config: EmaConfig) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.config = config

    def decay(self, images_seen: int, batch: int) -> float:
        """The decay of the average in a step of `batch` images: 0.5^(batch / half-life).

        The half-life in images is at most `rampup` times the images seen.
        """
        half_life = min(self.config.half_life_kimg * 1000, images_seen * self.config.rampup)
        return 0.5 ** (batch / max(half_life, 1e-8))

    @torch.no_grad()
    def update(self, model: nn.Module, images_seen: int, batch: int) -> None:
        """Update the average after a step of `batch` images; `images_seen` includes this step."""
        torch._foreach_lerp_(
            list(self.model.parameters()),
            list(model.parameters()),
            1 - self.decay(images_seen, batch),
        )
        for copied, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            copied.copy_(buffer)

    def state_dict(self) -> dict:
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state)


class PowerAverages:
    """Power-function averages of the parameters of a network, one for each relative length.

    Karras et al. 2024 (`training.power_profiles`): after a step of `batch` images at T images,
    average = beta average + (1 - beta) parameters with beta = (1 - batch / T)^(g + 1). This is
    exact if the parameters stay constant between two steps, as they do. T counts the images of the
    steps that were taken; a skipped step changes nothing. Before the first step there is no
    average, and the tensors are 0.

    averages: {sigma_rel: {parameter name: average in float32}}.
    images: T [], int64 on the network's device, so that an update does not wait for the device.
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
        """Update the averages after a step of `batch` images.

        taken: [], bool: whether the step changed the parameters; False = it was skipped.
        """
        if not self.averages:
            return
        parameters: list[torch.Tensor] = list(model.parameters())
        self.images += batch * taken
        log_base = torch.log1p(-batch / self.images)  # log1p is exact also if batch / T is tiny
        for exponent, average in zip(self.exponents, self.averages.values(), strict=True):
            weight = -torch.expm1((exponent + 1) * log_base)  # 1 - beta
            weight = torch.where(taken, weight, 0.0)
            averaged = list(average.values())
            change = torch._foreach_sub(parameters, averaged)
            torch._foreach_mul_(change, weight)
            torch._foreach_add_(averaged, change)

    def state_dict(self) -> dict:
        return {"images": self.images, "averages": self.averages}

    def load_state_dict(self, state: dict) -> None:
        """Restore a state. Raises `KeyError` if it lacks a relative length or a parameter."""
        self.images.copy_(state["images"])
        for sigma_rel, average in self.averages.items():
            for name, value in average.items():
                value.copy_(state["averages"][sigma_rel][name])
