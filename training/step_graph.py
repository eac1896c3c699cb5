"""CUDA graphs of the training step (`--cuda-graph`).

A step starts thousands of small kernels. On a GPU, starting them from Python takes much longer than
computing them. A CUDA graph records the kernels once, and one call then starts all of them.

What is captured: the loss of each player and its backward pass, the *phases* of a step. The
optimisers, the averages and the log stay outside, because they start few kernels and their numbers,
such as the learning rate, change. A graph reads and writes fixed addresses. So the inputs and the
random numbers of a step are copied into a `HeldMicroBatch`, and the gradients always lie in the
same tensors.

Steps differ: by the regularisers that are due, by the side of the pictures and by the length of the
captions. Each kind of step has a `StepPlan`. All graphs share one memory pool, so a graph may
overwrite the results of another. This is safe: each result is read before the next graph runs. The
only exception are the fakes that G's phase takes over from D's phase (`LossConfig.shared_fakes`).
Both phases belong to one plan, and between them no other graph runs.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import nn

from dnnlib.errors import UserError, reason_of
from networks.interfaces import Generator
from networks.layers.vector_quantizer import VectorQuantizer
from torch_utils.distributed import world_size
from torch_utils.training_stats import Collector
from training.config import TrainConfig
from training.gan_loss import GanLoss
from training.micro_batch import HeldMicroBatch, MicroBatch
from training.optimize import Player

# Word features are padded to a multiple of this many tokens, so few lengths need graphs.
TOKENS = 16
# Further kinds of steps run without a graph.
MOST_PLANS = 32

Work = Callable[[], torch.Tensor | None]
Outputs = list[torch.Tensor]


class Capture(Protocol):
    """Records GPU work to repeat it later. The tests have one that works on a CPU."""

    def stream(self) -> contextlib.AbstractContextManager[None]:
        """The context in which every step runs, captured or not."""

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        """Record `work` without running it -> (its results, a function that runs it).

        The function writes the same result tensors in each call.
        """


class CudaCapture:
    """`Capture` by CUDA graphs on a stream that all steps use, in one memory pool."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.side_stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        # With one stream for steps with and without a graph, autograd never has to connect a
        # captured stream with another one, which CUDA refuses.
        outer = torch.cuda.current_stream(self.device)
        self.side_stream.wait_stream(outer)
        try:
            with torch.cuda.stream(self.side_stream):
                yield
        finally:
            outer.wait_stream(self.side_stream)

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        gc.collect()  # no page-locked memory may be given back while the stream is captured
        graph = torch.cuda.CUDAGraph()
        # The threads of the loader and of the checkpoint may use the GPU at the same time.
        with torch.cuda.graph(
            graph, pool=self.pool, stream=self.side_stream, capture_error_mode="thread_local"
        ):
            outputs = work()
        return outputs, graph.replay


class Phase(NamedTuple):
    """A captured phase.

    replay: runs it. gradients: of each parameter of the player, None for those without one.
    total: the sum that the phase returns, or None. reported: the names and counts of the values
    for the log. sums: their sums.
    """

    replay: Callable[[], None]
    gradients: list[torch.Tensor | None]
    total: torch.Tensor | None
    reported: Collector


class StepPlan:
    """The phases of one kind of step.

    The first step of the kind runs as usual and shows which parameters receive gradients. The
    second one runs the functions that are captured, so that libraries load what they need. The
    third one captures each phase and replays it at once, as all later steps do. Every step is thus
    computed exactly once.
    """

    def __init__(self, micro: MicroBatch, capture: Capture, held: dict) -> None:
        self.micro = HeldMicroBatch(micro)
        self.capture, self.held = capture, held
        self.steps = 0
        self.position = 0
        self.used: list[list[bool]] = []  # of each phase: which parameters receive gradients
        self.phases: list[Phase] = []

    def begin(self, micro: MicroBatch) -> None:
        """Begin a step of this kind with the pictures, texts and random streams of `micro`."""
        if self.steps:
            self.micro.refill(micro)
        self.steps += 1
        self.position = 0

    def play(self, player: Player, loss: GanLoss, work: Work) -> torch.Tensor | None:
        """Compute the gradients of the next phase -> the result of `work`.

        work: computes the loss and its gradients from `self.micro`.
        """
        index = self.position
        self.position += 1
        if self.steps == 1:
            player.begin()
            total = work()
            self.used.append([p.grad is not None for p in player.parameters])
            return total
        gradients = self._gradients(player, self.used[index])
        if self.steps == 2:
            total, reported = _computed(player, gradients, loss, work)
            loss.collector.merge(reported)
            return total
        if index == len(self.phases):
            self.phases.append(self._captured(player, gradients, loss, work))
        phase = self.phases[index]
        phase.replay()
        _point(player, phase.gradients)
        loss.collector.merge(phase.reported)
        return phase.total

    def _gradients(self, player: Player, used: list[bool]) -> list[torch.Tensor | None]:
        """The tensors for the gradients; those of a parameter are the same in all plans."""
        for parameter, is_used in zip(player.parameters, used, strict=True):
            if is_used and parameter not in self.held:
                self.held[parameter] = torch.zeros_like(parameter)
        return [
            self.held[parameter] if is_used else None
            for parameter, is_used in zip(player.parameters, used, strict=True)
        ]

    def _captured(
        self, player: Player, gradients: list[torch.Tensor | None], loss: GanLoss, work: Work
    ) -> Phase:
        captured: list[tuple[torch.Tensor | None, Collector]] = []

        def phase() -> Outputs:
            total, reported = _computed(player, gradients, loss, work)
            captured.append((total, reported))
            return [*([] if total is None else [total]), *reported.sums.values()]

        try:
            outputs, replay = self.capture.capture(phase)
        except RuntimeError as error:  # of CUDA, or out of memory
            # The end of a failed capture raises an error of its own; the first one tells the cause.
            cause = error.__context__ or error
            raise UserError(
                f"--cuda-graph: the step could not be captured ({reason_of(cause)}); "
                "resume the run with --cuda-graph off"
            ) from error
        total, reported = captured[0]
        values = iter(outputs)
        total = None if total is None else next(values)
        reported.sums = dict(zip(reported.sums, values, strict=True))
        return Phase(replay, gradients, total, reported)


def _computed(
    player: Player, gradients: list[torch.Tensor | None], loss: GanLoss, work: Work
) -> tuple[torch.Tensor | None, Collector]:
    """Compute a phase into the tensors `gradients` -> (result of `work`, values for the log)."""
    torch._foreach_zero_([gradient for gradient in gradients if gradient is not None])
    _point(player, gradients)
    outer, loss.collector = loss.collector, Collector()
    try:
        return work(), loss.collector
    finally:
        loss.collector = outer


def _point(player: Player, gradients: list[torch.Tensor | None]) -> None:
    for parameter, gradient in zip(player.parameters, gradients, strict=True):
        parameter.grad = gradient


class StepGraphs:
    """The plans of all kinds of steps of a run."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.plans: dict[Hashable, StepPlan] = {}
        self.gradients: dict[nn.Parameter, torch.Tensor] = {}

    def plan(self, kind: Hashable, micro: MicroBatch) -> StepPlan | None:
        """The plan of a step that begins now; None for a step without a graph.

        kind: what the Python code of the step depends on, besides the shapes in `micro`.
        """
        text = () if micro.text is None else (micro.text.sentence.shape, micro.text.words.shape)
        key = kind, micro.images.shape, text
        if key not in self.plans:
            if len(self.plans) >= MOST_PLANS:
                return None
            self.plans[key] = StepPlan(micro, self.capture, self.gradients)
        self.plans[key].begin(micro)
        return self.plans[key]


def step_graphs(
    config: TrainConfig, device: torch.device, rounds: int, generator: Generator
) -> tuple[StepGraphs | None, str]:
    """The graphs of a run, and the end of a log line about them, which may be empty.

    Raises `UserError` if `--cuda-graph on` is not possible.
    """
    if config.cuda_graph == "off":
        return None, ""
    reason = obstacle(config, device, rounds, generator)
    if reason is None:
        return StepGraphs(CudaCapture(device)), "; CUDA graphs: on"
    if config.cuda_graph == "on":
        raise UserError(f"--cuda-graph on: {reason}; take --cuda-graph auto")
    return None, f"; CUDA graphs: off, {reason}" if device.type == "cuda" else ""


def obstacle(
    config: TrainConfig, device: torch.device, rounds: int, generator: Generator
) -> str | None:
    """Why steps cannot run as CUDA graphs; None if they can."""
    if device.type != "cuda":
        return f"{device.type} devices have no CUDA graphs"
    if world_size() > 1:
        return "several ranks exchange data within a step"
    if rounds > 1:
        return "the batch accumulates over several forwards (--batch-gpu)"
    if config.patches.side and not generator.takes_patches:
        return f"{config.generator.kind} draws patches one by one"
    if config.loss.cond or config.loss.cong:
        return "the image tower of loss.cond and loss.cong may wait for the GPU"
    if any(isinstance(module, VectorQuantizer) for module in generator.modules()):
        return "code books change between steps"
    return None
