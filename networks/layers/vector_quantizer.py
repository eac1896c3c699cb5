"""Vector quantisation of features (van den Oord et al. 2017): a code book learned by moving averages, with restarts.

Forward: each vector becomes the nearest of K codes; backward: straight through. The commitment loss pulls vectors to their
codes; codes follow the mean of their vectors (their appendix A.1); a code that hardly anything chooses is moved onto a vector of
the batch. Code books move once a training step, by `end_step`, over all ranks and accumulation rounds together.

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
    """num_codes: K; code_dim: c; slots: codes that stand for one feature vector (K^slots values). decay: of the moving averages, a
    step. commitment: weight of the commitment loss. restart_below: a code is moved when its average use falls below this share of
    an equal share.
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
    """codes: as the input, each vector replaced by a code; indices [N, T]; commitment: weighted loss of each sample [N]."""

    codes: torch.Tensor
    indices: torch.Tensor
    commitment: torch.Tensor


class VectorQuantizer(nn.Module):
    """x [N, T, c], mask [N, T] or None -> `Quantized`. Vectors are brought to unit second moment first.

    The code book starts at random: idle codes move onto vectors of the batch, at most one for each vector a step.
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
        self.register_buffer(
            "use", torch.zeros(config.num_codes)
        )  # average number of vectors a step
        self.register_buffer(
            "total", torch.zeros(config.num_codes, config.code_dim)
        )  # average sum of those vectors
        self.register_buffer(
            "chosen", torch.zeros(config.num_codes)
        )  # `use` without what restarts were credited
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.long))
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._steps = 0  # `num_steps` where it can be read without waiting for the device
        self.register_load_state_dict_post_hook(_after_loading)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        with no_autocast(x.device):  # distances of 8 bits would choose wrong codes
            x = unit_second_moment(x.float())
            scores = x.detach() @ self.codebook.T - 0.5 * self.codebook.square().sum(dim=1)
            indices = scores.argmax(dim=2)  # the largest x.c - |c|^2 / 2 is the nearest code
            codes = self.codebook[indices]
            distances = (x - codes).square().mean(dim=2)
        weights = torch.ones_like(distances) if mask is None else mask.to(distances.dtype)
        commitment = (distances * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        if self.training and torch.is_grad_enabled():
            self._seen.append(
                (
                    x.detach(),
                    indices,
                    torch.ones_like(indices, dtype=torch.bool) if mask is None else mask,
                )
            )
        return Quantized(x + (codes - x).detach(), indices, commitment * self.config.commitment)

    @torch.no_grad()
    def end_step(self) -> dict[str, torch.Tensor]:
        """Move the code book by what the forwards with gradient saw since the last call; a collective call.

        Returns scalars: perplexity (exponential of the entropy of the averaged use; K at best),
        used (share of codes that the step chose), restarts (codes moved), error (mean squared
        distance of a vector to its code). Vectors that are not finite move nothing, as the step
        that saw them moves no weight; the scalars are NaN then. Nothing seen: nothing moves,
        nothing is returned.
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
        # A code that nothing ever chose stays where it started.
        known = moves & (self.use > 0)[:, None]
        self.codebook.copy_(
            torch.where(known, self.total / self.use.clamp(min=1e-8)[:, None], self.codebook)
        )
        restarts = self._restart(x, mask, counts.sum() / config.num_codes, moves)
        share = self.chosen / self.chosen.sum()
        entropy = (-share * share.clamp(min=1e-12).log()).sum()
        found = {
            "perplexity": entropy.exp(),
            "used": (counts > 0).float().mean(),
            "restarts": restarts,
            "error": error / counts.sum(),
        }
        return {name: torch.where(moves, value, torch.nan) for name, value in found.items()}

    def _restart(
        self, x: torch.Tensor, mask: torch.Tensor, equal_share: torch.Tensor, moves: torch.Tensor
    ) -> torch.Tensor:
        """Lay idle codes onto vectors of rank 0's batch, a vector each, with an equal share of use; returns their number."""
        # The draws belong to the vectors that count, in their order: padding and the split into
        # rounds change nothing.
        draws = torch.rand(len(x), generator=generator_for("code book", self._steps))
        keys = to_device(draws, x.device)[mask.cumsum(0) - 1].masked_fill(~mask, torch.inf)
        rows = keys.topk(min(self.config.num_codes, len(x)), largest=False).indices
        fresh = torch.zeros_like(self.codebook)
        fresh[: len(rows)] = x[rows]
        number = mask.sum().clamp(max=self.config.num_codes)  # of rows of `fresh` that count
        broadcast_from_main([fresh, number])
        idle = self.use < self.config.restart_below * equal_share
        order = (idle.cumsum(0) - 1).clamp(min=0)
        idle = moves & idle & (order < number)  # the others wait for the next step
        self.codebook.copy_(torch.where(idle[:, None], fresh[order], self.codebook))
        self.use.copy_(torch.where(idle, equal_share, self.use))
        self.total.copy_(torch.where(moves, self.codebook * self.use[:, None], self.total))
        self.num_steps += 1
        self._steps += 1
        return idle.sum()


def _after_loading(quantizer: VectorQuantizer, keys: object) -> None:
    """What a step saw before it was rolled back is not the next one's."""
    quantizer._seen.clear()
    quantizer._steps = int(quantizer.num_steps)


class FeatureQuantizer(nn.Module):
    """Features [N, T, C] -> the same shape through `slots` codes each: linear, quantised, linear. `.quantizer` is the code book."""

    def __init__(self, channels: int, config: VectorQuantizerConfig) -> None:
        super().__init__()
        self.slots = config.slots
        self.encode = EqualLinear(channels, config.slots * config.code_dim)
        self.quantizer = VectorQuantizer(config)
        self.decode = EqualLinear(config.slots * config.code_dim, channels)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Quantized:
        vectors = self.encode(unit_second_moment(x)).unflatten(2, (self.slots, -1)).flatten(1, 2)
        mask = None if mask is None else mask.repeat_interleave(self.slots, dim=1)
        found = self.quantizer(vectors, mask)
        return Quantized(
            self.decode(found.codes.unflatten(1, (x.shape[1], self.slots)).flatten(2)),
            found.indices,
            found.commitment,
        )
