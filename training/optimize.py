"""One optimiser step from gradients that may be spread over ranks, with a policy for those that are
not finite.

No step with such gradients is ever applied, whatever the policy. What the policy asks for happens
at the next tick, before anything is saved: to learn of it in the step itself, every step would wait
for the device.
"""

from __future__ import annotations

import torch
from torch import nn

from torch_utils.distributed import sum_gradients
from torch_utils.training_stats import Collector
from training.config import AdamConfig

MAX_SKIPPED_IN_A_ROW = 100


class NonFiniteError(RuntimeError):
    """Gradients with NaN or infinity, under nan_policy 'stop' or 'rollback', or too many skipped steps in a row."""


class Player:
    """A network with its Adam; the same for G and D.

    Adam itself leaves out a step whose gradients are not finite, by a flag on the device, so that
    nothing waits to learn of it. `skipped` and `skipped_in_a_row` [] count such steps there;
    `check` reads them.
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
        self.num_skipped = 0  # at the last check

    def scale_lr(self, scale: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * scale

    def begin(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, collector: Collector) -> torch.Tensor:
        """Sum gradients over ranks and step -> whether the step was taken [], bool, on the device.

        A collective call.
        """
        sum_gradients(self.parameters)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        collector.report(f"Gradient/{self.name}", norm, finite_only=True)
        taken = norm.isfinite()
        # This is how PyTorch's GradScaler tells a fused optimiser to change nothing.
        self.optimizer.found_inf = (~taken).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.skipped += ~taken
        self.skipped_in_a_row = (self.skipped_in_a_row + 1) * ~taken
        return taken

    def check(self, nan_policy: str) -> None:
        """Read the counts, once a tick, for it waits for the device.

        Raises `NonFiniteError` where the policy asks for it.
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
