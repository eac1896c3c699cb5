"""Estimate the memory of a training step: the same step, computed on tensors without numbers.

PyTorch's fake tensors have a shape, a type and a lifetime, but no memory. `estimate` builds the
networks, takes their fake copies and lets `Trainer.step` run on them, while `LiveMemory` adds up
the storages that live at the same time. So every loss term, accumulation round and penalty counts
as in the run itself. Only the weights are allocated for real, in CPU memory and once.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from datasets.patches import FRAME
from dnnlib.errors import UserError
from networks.interfaces import TextEncoder, TextFeatures
from networks.text_encoders import load_encoder
from torch_utils.distributed import resolve_device
from torch_utils.memory import LiveMemory
from torch_utils.precision import resolve
from training.config import TrainConfig
from training.optimize import Player
from training.trainer import Trainer

MIB, GIB = 2**20, 2**30
CONTEXT = 77  # tokens of a caption where the encoder states no limit


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process of a run.

    kept: what stays in memory between steps, by name; the gradients, too, until they are replaced.
    phases: the most bytes beside `kept` in each phase of a step: activations and inputs.
    micro_size, rounds: images of a forward pass, and forward passes of a phase.
    precision: fp32 or bf16.
    """

    recipe: str
    kept: dict[str, int]
    phases: dict[str, int]
    micro_size: int
    rounds: int
    precision: str

    @property
    def total(self) -> int:
        """The peak of a step."""
        return sum(self.kept.values()) + max(self.phases.values())

    def lines(self) -> list[str]:
        """The estimate as lines of a table."""
        head = (
            f"{self.recipe}: memory of one process, {self.rounds} x {self.micro_size} images a "
            f"step, {self.precision}"
        )
        rows = [
            *self.kept.items(),
            *((f"activations: {name}", size) for name, size in self.phases.items()),
            ("total, with the largest activations", self.total),
        ]
        return [head, *(f"  {name:<44}{size / MIB:>11,.1f} MiB" for name, size in rows)]


class _Texts:
    """A `TextEncoder` that gives zeros of the right shape, with captions of the full context."""

    id = "texts without content"

    def __init__(self, encoder: TextEncoder) -> None:
        self.sentence_dim, self.word_dim = encoder.sentence_dim, encoder.word_dim
        self.max_tokens = getattr(encoder, "max_tokens", CONTEXT)

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        rows, length = len(captions), self.max_tokens
        return TextFeatures(
            torch.zeros(rows, self.sentence_dim),
            torch.zeros(rows, length, self.word_dim),
            torch.ones(rows, length, dtype=torch.bool),
        )


class MeteredTrainer(Trainer):
    """A trainer that records the peak of each phase in `peaks`, while `meter` counts."""

    meter: LiveMemory
    peaks: list[int]

    def _play(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor | None, torch.Tensor]:
        self.meter.restart()
        result = super()._play(*args, **kwargs)
        self.peaks.append(self.meter.peak)
        self.meter.restart()
        return result

    def metered_step(self, images: torch.Tensor, boxes: torch.Tensor | None) -> list[int]:
        """One step -> the peaks in bytes of its phases; the last one is that of the averages."""
        self.peaks = []
        self.step(images, ["a caption"] * len(images), boxes)
        return [*self.peaks, self.meter.peak]


def estimate(config: TrainConfig, ranks: int = 1) -> MemoryEstimate:
    """The memory that a step of one of `ranks` processes needs, by fake tensors on the CPU.

    Neither the data nor the weights of an open_clip encoder are read. `--device cuda` may be named
    on a machine without a GPU; `--precision auto` then counts as bf16. Not counted: CUDA's own
    context and workspaces, the gaps between the blocks of the allocator, and the loader. Plain
    PyTorch is counted for the operators that have CUDA kernels; captions have the full context.
    Raises `UserError` as `TrainConfig.micro_batches` does.
    """
    micro_size, rounds = config.micro_batches(ranks)
    precision = _precision(config)
    run = min(rounds, 2)  # more rounds add the memory of their inputs alone
    share = micro_size * run
    run_config = replace(config, batch=share, batch_gpu=micro_size, precision=precision).resolved()
    trainer, meter, mode = _fake_trainer(run_config)
    loss = config.loss
    with mode, meter:
        for player in (trainer.player_g, trainer.player_d):
            _make_states(player)
        images, boxes = blank_batch(config, share)
        # A step with all lazy terms of the losses, and one without.
        every = math.lcm(loss.r1_interval, loss.cong_interval, loss.path_length_interval)
        first = math.ceil(config.start_kimg * 1000 / share / every) * every
        peaks: dict[str, int] = {}
        for index, everything in ((first, True), (first + 1, False)):
            names = _phase_names(run_config, everything)
            if not set(names) <= set(peaks):
                trainer.progress.images = index * share
                peaks |= dict(zip(names, trainer.metered_step(images, boxes), strict=True))
        kept = _kept(trainer, meter.now - images.nbytes)
    base = sum(kept.values())
    inputs = (rounds - run) * micro_size * 3 * config.judged_side**2 * torch.float32.itemsize
    phases = {name: max(peak - base, 0) + inputs for name, peak in peaks.items()}
    if ranks > 1:  # `sum_gradients` copies the gradients of a player into one tensor
        gradients = (_bytes(net.parameters()) for net in (trainer.generator, trainer.discriminator))
        phases["sum of gradients over ranks"] = max(gradients)
    return MemoryEstimate(config.recipe, kept, phases, micro_size, rounds, precision)


def blank_batch(config: TrainConfig, count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`count` blank pictures for `Trainer.step`: (images, and boxes where it trains on patches)."""
    side = config.judged_side
    boxes = torch.tensor([FRAME] * count, dtype=torch.float64) if config.patches.side else None
    return torch.zeros(count, 3, side, side, dtype=torch.uint8), boxes


def _make_states(player: Player) -> None:
    """Give a player gradients and states of its optimiser, as they are between two steps."""
    for parameter in player.parameters:
        parameter.grad = torch.zeros_like(parameter)
    player.optimizer.step()


def advice(config: TrainConfig, ranks: int) -> str:
    """What a user can do where the memory of a process ran out, with the memory that it saves."""
    size, _ = config.micro_batches(ranks)
    smaller = next((n for n in range(size // 2, 0, -1) if _allows(config, n, ranks)), None)
    plain = "give a smaller --batch-gpu; --batch stays the same, as gradients accumulate"
    try:
        now = estimate(config, ranks).total / GIB
        if smaller is None:
            return (
                f"--batch-gpu cannot be below {size} here, and by the estimate a process needs "
                f"{now:.2f} GiB; take a smaller recipe, or a device with more memory"
            )
        then = estimate(replace(config, batch_gpu=smaller), ranks).total / GIB
    except (RuntimeError, MemoryError, UserError):  # the memory for the weights may be missing, too
        return plain
    return (
        f"give --batch-gpu {smaller} in place of {size}: by the estimate a process then needs "
        f"{then:.2f} GiB in place of {now:.2f} GiB; --batch stays the same, as gradients accumulate"
    )


def _allows(config: TrainConfig, size: int, ranks: int) -> bool:
    """Whether a forward pass of the run may have `size` images."""
    try:
        replace(config, batch_gpu=size).micro_batches(ranks)
    except UserError:
        return False
    return True


def _precision(config: TrainConfig) -> Any:
    """fp32 or bf16; bf16 for a CUDA device that this machine does not have."""
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        return "bf16" if config.precision == "auto" else config.precision
    return resolve(resolve_device(config.device), config.precision)


def _fake_trainer(config: TrainConfig) -> tuple[MeteredTrainer, LiveMemory, FakeTensorMode]:
    """A trainer on fake tensors, and the memory that holds them."""
    encoder = load_encoder(config.text_encoder, weights=False) if config.needs_encoder else None
    texts = None if encoder is None else _Texts(encoder)
    config = replace(config, cuda_graph="off")  # the estimate is of a step without graphs
    trainer = MeteredTrainer(config, encoder, torch.device("cpu"), texts)
    memo: dict[int, Any] = {}
    mode, meter = FakeTensorMode(allow_non_fake_inputs=True), LiveMemory()
    with mode, FakeCopyMode(mode):
        trainer = copy.deepcopy(trainer, memo)
    for value in memo.values():
        if isinstance(value, torch.Tensor):
            meter.add(value)
    trainer.meter = meter
    return trainer, meter, mode


def _phase_names(config: TrainConfig, everything: bool) -> list[str]:
    """The phases of a step in their order. everything: whether the step has all lazy terms."""
    loss = config.loss

    def added(weight: float, interval: int, term: str) -> str:
        return f" with {term}" if weight and (everything or interval == 1) else ""

    path = ["path length of G"] if added(loss.path_length, loss.path_length_interval, "it") else []
    return [
        "D" + added(loss.r1_gamma, loss.r1_interval, "R1"),
        "G" + added(loss.cong, loss.cong_interval, "ConG"),
        *path,
        "averages",
    ]


def _kept(trainer: Trainer, at_rest: int) -> dict[str, int]:
    """What stays in memory between steps, by name. at_rest: bytes of all of it."""
    networks = trainer.generator, trainer.discriminator
    states = [
        value
        for player in (trainer.player_g, trainer.player_d)
        for state in player.optimizer.state.values()
        for value in state.values()
    ]
    averages = [average for one in trainer.powers.averages.values() for average in one.values()]
    weights = [_bytes(network.parameters()) for network in networks]
    kept = {
        "parameters of G": weights[0],
        "parameters of D": weights[1],
        "gradients": _bytes(p.grad for network in networks for p in network.parameters()),
        "states of the optimisers": _bytes(states),
        "averages (EMA)": _bytes([*trainer.ema.model.parameters(), *averages]),
    }
    return kept | {"frozen networks and buffers": at_rest - sum(kept.values())}


def _bytes(tensors: Iterable[torch.Tensor | None]) -> int:
    return sum(x.untyped_storage().nbytes() for x in tensors if x is not None)
