"""Optimiser steps over ranks, with a policy for gradients that are not finite.

A step whose gradients are not finite is never applied. The policy (`nan_policy`) acts at the next
tick, before anything is saved. Acting in the step itself would need a wait for the device in every
step.
"""

from __future__ import annotations

import torch
from torch import nn

from torch_utils.distributed import sum_gradients
from torch_utils.training_stats import Collector
from training.config import AdamConfig

MAX_SKIPPED_IN_A_ROW = 100


class NonFiniteError(RuntimeError):
    """Gradients were not finite under the policy 'stop' or 'rollback', or in too many steps."""


class Player:
    """A network, G or D, with its Adam optimiser.

    Adam skips a step whose gradients are not finite. A flag on the device tells it to, so the
    process does not wait for the device. `skipped` and `skipped_in_a_row` [] count skipped steps on
    the device; `check` reads them.
    """

    def __init__(self, name: str, network: nn.Module, config: AdamConfig) -> None:
        self.name, self.network, self.lr = name, network, config.lr
        self.parameters = list(network.parameters())
        self.optimizer = torch.optim.Adam(
            self.parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            fused=True,
        )
        self.skipped = torch.zeros((), dtype=torch.long, device=self.parameters[0].device)
        self.skipped_in_a_row = torch.zeros_like(self.skipped)
        self.num_skipped = 0  # the value of `skipped` at the last check

    def scale_lr(self, scale: float) -> None:
        """Set the learning rate to `scale` times that of the config."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * scale

    def begin(self) -> None:
        """Clear the gradients before a step."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, collector: Collector) -> torch.Tensor:
        """Sum gradients over ranks and apply a step, unless they are not finite.

        Returns whether the step was taken: [], bool, on the device. This is a collective call.
        """
        sum_gradients(self.parameters)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        collector.report(f"Gradient/{self.name}", norm, finite_only=True)
        taken = norm.isfinite()
        # PyTorch's GradScaler uses the same attribute to make a fused optimiser skip a step.
        self.optimizer.found_inf = (~taken).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.skipped += ~taken
        self.skipped_in_a_row = (self.skipped_in_a_row + 1) * ~taken
        return taken

    def check(self, nan_policy: str) -> None:
        """Read the counts of skipped steps and apply the policy 'stop', 'rollback' or 'skip'.

        Raises `NonFiniteError` for a new skipped step, unless the policy is 'skip', and for
        MAX_SKIPPED_IN_A_ROW skipped steps in a row. Called once a tick, as it waits for the device.
        """
        before, self.num_skipped = self.num_skipped, int(self.skipped)
        new, in_a_row = self.num_skipped - before, int(self.skipped_in_a_row)
        if nan_policy != "skip" and new:
            raise NonFiniteError(
                f"the gradient of {self.name} was not finite in {new} of the last steps"
            )
        if in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise NonFiniteError(
                f"{in_a_row} steps of {self.name} in a row had gradients that are not finite"
            )

    def state_dict(self) -> dict:
        return {"optimizer": self.optimizer.state_dict(), "skipped": int(self.skipped)}

    def load_state_dict(self, state: dict) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_skipped = state["skipped"]
        self.skipped.fill_(self.num_skipped)
        self.skipped_in_a_row.zero_()
