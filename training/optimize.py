"""One optimiser step from gradients that may be spread over ranks, with a policy for those that are not finite."""

from __future__ import annotations

import math

import torch
from torch import nn

from torch_utils.distributed import sum_gradients
from torch_utils.training_stats import Collector
from training.config import AdamConfig

MAX_SKIPPED_IN_A_ROW = 100


class NonFiniteError(RuntimeError):
    """Gradients with NaN or infinity, under nan_policy 'stop' or 'rollback', or too many skipped steps in a row."""


class Player:
    """A network with its Adam; the same for G and D. Counts skipped steps."""

    def __init__(self, name: str, network: nn.Module, config: AdamConfig) -> None:
        self.name, self.network, self.lr = name, network, config.lr
        self.parameters = list(network.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.lr, betas=(config.beta1, config.beta2),
                                          eps=config.eps, fused=True)
        self.skipped, self.skipped_in_a_row = 0, 0

    def scale_lr(self, scale: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * scale

    def begin(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, nan_policy: str, collector: Collector) -> bool:
        """Sum gradients over ranks and step; False when the step was skipped. A collective call."""
        sum_gradients(self.parameters)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if math.isfinite(norm.item()):
            collector.report(f"Gradient/{self.name}", norm)
            self.optimizer.step()
            self.skipped_in_a_row = 0
            return True
        self.skipped += 1
        self.skipped_in_a_row += 1
        if nan_policy != "skip":
            raise NonFiniteError(f"the gradient of {self.name} is not finite")
        if self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise NonFiniteError(f"{self.skipped_in_a_row} steps of {self.name} in a row had gradients that are not finite")
        return False

    def state_dict(self) -> dict:
        return {"optimizer": self.optimizer.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.skipped = state["skipped"]
