"""Vector quantisation of features (van den Oord et al. 2017).

In the forward pass each vector is replaced by the nearest of K codes; the backward pass uses the
straight-through gradient. The commitment loss pulls vectors towards their codes. A code follows the
moving average of the vectors assigned to it (appendix A.1 of the paper). A code to which few
vectors are assigned is restarted: it moves onto a vector of the batch. `end_step` updates the code
book once for each training step, over all ranks and accumulation rounds.

Shapes: N batch, K codes, c code width, S slots, T vectors of a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from dnnlib.bounds import AtLeastOne, BelowOne, NotNegative, at_least, check_bounds
from networks.layers.linear import EqualLinear, unit_second_moment
from torch_utils.distributed import broadcast_from_main, sum_over_ranks
from torch_utils.precision import no_autocast
from torch_utils.rng import generator_for
from torch_utils.tensors import to_device


@dataclass(frozen=True, kw_only=True)
class VectorQuantizerConfig:
    """Config of a vector quantiser.

    num_codes: number K of codes.
    code_dim: width c of a code.
    slots: number of codes that represent one feature vector (K^slots possible values).
    decay: decay of the moving averages for each training step.
    commitment: weight of the commitment loss.
    restart_below: a code is restarted when its average use is below this share of the mean use of
        all codes.
    """

    num_codes: Annotated[int, at_least(2)] = 512
    code_dim: AtLeastOne = 32
    slots: AtLeastOne = 8
    decay: BelowOne = 0.99
    commitment: NotNegative = 0.25
    restart_below: BelowOne = 0.1

    def __post_init__(self) -> None:
        check_bounds(self, "quantizer.")


@dataclass(frozen=True)
class Quantized:
    """The result of a quantiser.

    codes: the input with each vector replaced by a code, of the same shape.
    indices: [N, T], the index of the code of each vector.
    commitment: [N], the weighted commitment loss of each sample.
    """

    codes: torch.Tensor
    indices: torch.Tensor
    commitment: torch.Tensor


class VectorQuantizer(nn.Module):
    """x [N, T, c] and mask [N, T] bool or None -> `Quantized`.

    Vectors are scaled to unit second moment first. Vectors where the mask is False have no part in
    the loss and in the code book. The code book starts at random; unused codes then move onto
    vectors of the batch, at most one code for each vector and step.
    """

    codebook: torch.Tensor
    use: torch.Tensor
    total: torch.Tensor
    chosen: torch.Tensor
    num_steps: torch.Tensor

    def __init__(self, config: VectorQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codebook", torch.randn(config.num_codes, config.code_dim))
        # Moving averages: vectors of a step assigned to each code, and the sum of these vectors.
        self.register_buffer("use", torch.zeros(config.num_codes))
        self.register_buffer("total", torch.zeros(config.num_codes, config.code_dim))
        # As `use`, but without the equal share that a restart adds to `use`.
        self.register_buffer("chosen", torch.zeros(config.num_codes))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.long))
        # (vectors, indices, mask) of each forward since the last `end_step`.
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._steps = 0  # `num_steps` on the host, which can be read without a device sync
        self.register_load_state_dict_post_hook(_after_loading)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        # Distances rounded to bf16 (8 bits of precision) would select wrong codes.
        with no_autocast(x.device):
            x = unit_second_moment(x.float())
            scores = x.detach() @ self.codebook.T - 0.5 * self.codebook.square().sum(dim=1)
            indices = scores.argmax(dim=2)  # the nearest code has the largest x.c - |c|^2 / 2
            codes = self.codebook[indices]
            distances = (x - codes).square().mean(dim=2)
        weights = torch.ones_like(distances) if mask is None else mask.to(distances.dtype)
        commitment = (distances * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        if self.training and torch.is_grad_enabled():
            counted = torch.ones_like(indices, dtype=torch.bool) if mask is None else mask
            self._seen.append((x.detach(), indices, counted))
        return Quantized(x + (codes - x).detach(), indices, commitment * self.config.commitment)

    @torch.no_grad()
    def end_step(self) -> dict[str, torch.Tensor]:
        """Update the code book from all training forwards since the last call. A collective call.

        Returns scalars to log:
            perplexity: exponential of the entropy of the average use; at most K.
            used: share of the codes to which vectors were assigned in this step.
            restarts: number of restarted codes.
            error: mean squared distance between a vector and its code.

        If a vector is not finite, the code book stays as it is and the scalars are NaN; the
        optimisers skip such a step too. Without a forward since the last call, the code book stays
        as it is and the result is empty.
        """
        if not self._seen:
            return {}
        seen = zip(*self._seen, strict=True)
        x, indices, mask = (torch.cat([part.flatten(0, 1) for part in parts]) for parts in seen)
        self._seen.clear()
        config, weights = self.config, mask[:, None].to(x.dtype)
        x = x.masked_fill(~mask[:, None], 0.0)
        choice = nn.functional.one_hot(indices, config.num_codes).to(x.dtype) * weights
        counts, sums = sum_over_ranks(choice.sum(dim=0)), sum_over_ranks(choice.T @ x)
        error = sum_over_ranks(((x - self.codebook[indices]).square() * weights).mean(dim=1).sum())
        moves = torch.isfinite(sums).all() & (counts.sum() > 0)
        for average, new in ((self.use, counts), (self.total, sums), (self.chosen, counts)):
            average.lerp_(torch.where(moves, new, average), 1 - config.decay)
        # A code to which no vector was ever assigned keeps its start value.
        assigned = moves & (self.use > 0)[:, None]
        self.codebook.copy_(
            torch.where(assigned, self.total / self.use.clamp(min=1e-8)[:, None], self.codebook)
        )
        restarts = self._restart(x, mask, counts.sum() / config.num_codes, moves)
        share = self.chosen / self.chosen.sum()
        entropy = (-share * share.clamp(min=1e-12).log()).sum()
        scalars = {
            "perplexity": entropy.exp(),
            "used": (counts > 0).float().mean(),
            "restarts": restarts,
            "error": error / counts.sum(),
        }
        return {name: torch.where(moves, value, torch.nan) for name, value in scalars.items()}

    def _restart(
        self, x: torch.Tensor, mask: torch.Tensor, equal_share: torch.Tensor, moves: torch.Tensor
    ) -> torch.Tensor:
        """Move each rarely used code onto a vector of rank 0's batch; return the number of moves.

        Each moved code gets another vector, and its use is set to `equal_share`.
        """
        # Random numbers are drawn for the unmasked vectors in their order, so padding and the
        # number of accumulation rounds do not change the choice.
        draws = torch.rand(len(x), generator=generator_for("code book", self._steps))
        keys = to_device(draws, x.device)[mask.cumsum(0) - 1].masked_fill(~mask, torch.inf)
        rows = keys.topk(min(self.config.num_codes, len(x)), largest=False).indices
        fresh = torch.zeros_like(self.codebook)
        fresh[: len(rows)] = x[rows]
        number = mask.sum().clamp(max=self.config.num_codes)  # valid rows of `fresh`
        broadcast_from_main([fresh, number])
        idle = self.use < self.config.restart_below * equal_share
        order = (idle.cumsum(0) - 1).clamp(min=0)
        idle = moves & idle & (order < number)  # further rarely used codes wait for the next step
        self.codebook.copy_(torch.where(idle[:, None], fresh[order], self.codebook))
        self.use.copy_(torch.where(idle, equal_share, self.use))
        self.total.copy_(torch.where(moves, self.codebook * self.use[:, None], self.total))
        self.num_steps += 1
        self._steps += 1
        return idle.sum()


def _after_loading(quantizer: VectorQuantizer, keys: object) -> None:
    """Forget forwards from before a state was loaded, for example where a step was rolled back."""
    quantizer._seen.clear()
    quantizer._steps = int(quantizer.num_steps)


class FeatureQuantizer(nn.Module):
    """Features x [N, T, C] and mask [N, T] or None -> `Quantized` with codes [N, T, C].

    A linear layer maps each feature vector to `slots` vectors of width c, these are quantised, and
    a linear layer maps them back. indices: [N, T * slots]. `.quantizer` is the `VectorQuantizer`.
    """

    def __init__(self, channels: int, config: VectorQuantizerConfig) -> None:
        super().__init__()
        self.slots = config.slots
        self.encode = EqualLinear(channels, config.slots * config.code_dim)
        self.quantizer = VectorQuantizer(config)
        self.decode = EqualLinear(config.slots * config.code_dim, channels)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        vectors = self.encode(unit_second_moment(x)).unflatten(2, (self.slots, -1)).flatten(1, 2)
        mask = None if mask is None else mask.repeat_interleave(self.slots, dim=1)
        quantized = self.quantizer(vectors, mask)
        codes = quantized.codes.unflatten(1, (x.shape[1], self.slots)).flatten(2)
        return Quantized(self.decode(codes), quantized.indices, quantized.commitment)
