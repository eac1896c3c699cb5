"""The objects of a run and the training step: D, then G, then the averages.

A step is a pure function of the state, the seed and the images seen. The position in the data set,
the latents, the augmentation and the schedule of regularisers derive from the images seen. With the
same machine and number of threads, a step on a CPU repeats to the last bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from networks.coordinates import View
from networks.interfaces import TextEncoder, TextFeatures
from networks.patches import Patches
from networks.pretrained.frozen import fit_square
from torch_utils.distributed import rank, sum_over_ranks, world_size
from torch_utils.rng import seed_for
from torch_utils.tensors import from_uint8, to_device
from torch_utils.training_stats import Collector
from training.augment import Augmentation
from training.config import TrainConfig
from training.ema import Ema, PowerAverages
from training.gan_loss import GanLoss
from training.micro_batch import MicroBatch
from training.optimize import NonFiniteError, Player
from training.step_graph import TOKENS, StepPlan, step_graphs
from training.teacher import Teacher


@dataclass
class Progress:
    """The progress of a run.

    images: real images shown so far, which is the clock of training.
    snapshot_images: `images` at the last snapshot; -1 before the first.
    elapsed_s: training time in seconds, without snapshots and metrics.
    rollbacks: the number of rollbacks. It is a part of the names of random streams, so the steps
        after a rollback draw other numbers.
    dataset_hash: the content hash of the data set.
    run_id: a random identifier of the run.
    """

    images: int = 0
    snapshot_images: int = -1
    elapsed_s: float = 0.0
    rollbacks: int = 0
    dataset_hash: str = ""
    run_id: str = ""

    def state_dict(self) -> dict:
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        for name in vars(self):
            setattr(self, name, state[name])


class Trainer:
    """The networks, optimisers and averages of a run on one rank.

    `objects` are those whose state is saved in a checkpoint.

    `graphs` are the CUDA graphs of the step, or None; `graphs_note` is about them, for the log.

    encoder: the frozen encoder, whose image tower ConD and ConG use.
    text_encoder: gives the features of captions, for example from a cache; None = `encoder`.
    Both are None if the run reads no text.
    """

    def __init__(
        self,
        config: TrainConfig,
        encoder: TextEncoder | None,
        device: torch.device,
        text_encoder: TextEncoder | None = None,
    ) -> None:
        self.config, self.encoder, self.device = config, encoder, device
        self.text_encoder = text_encoder or encoder
        self.micro_size, self.rounds = config.micro_batches(world_size())
        # Only the initialisation draws from torch's global stream.
        torch.manual_seed(seed_for(config.seed, "init"))
        generator, discriminator = config.build_generator(), config.discriminator.build()
        self.generator = generator.to(device)
        self.discriminator = discriminator.to(memory_format=torch.channels_last).to(device)
        self.collector = Collector()
        self.progress = Progress()
        self.augment = Augmentation(config.augment, device)
        self.ema = Ema(self.generator, config.ema)
        self.powers = PowerAverages(self.generator, config.ema.posthoc)
        self.player_g = Player("G", self.generator, config.optimizer_g)
        self.player_d = Player("D", self.discriminator, config.optimizer_d)
        teacher = None
        if config.loss.teacher:
            assert config.init_from is not None  # TrainConfig has checked it
            teacher = Teacher(config.init_from, self.generator, device, config.judged_side)
        self.loss = GanLoss(
            self.generator,
            self.discriminator,
            encoder,
            self.augment,
            config.loss,
            config.judged_side,
            self.collector,
            config.precision,
            keep_fakes=self.rounds == 1,
            teacher=teacher,
        )
        self.graphs, self.graphs_note = step_graphs(config, device, self.rounds, self.generator)

    @property
    def objects(self) -> dict:
        """{name: object} of everything whose state is saved in a checkpoint."""
        optional: dict = {"power_averages": self.powers} if self.config.ema.posthoc else {}
        if self.loss.teacher is not None:  # the network of `init_from` may be trained further
            optional["teacher"] = self.loss.teacher.network
        return {
            "progress": self.progress,
            "generator": self.generator,
            "discriminator": self.discriminator,
            "ema": self.ema,
            "player_g": self.player_g,
            "player_d": self.player_d,
            "augment": self.augment,
            "loss": self.loss,
        } | optional

    def step(
        self, images: torch.Tensor, captions: Sequence[str], boxes: torch.Tensor | None = None
    ) -> None:
        """One training step of D and G.

        images: this rank's share of the batch, uint8 [batch / ranks, 3, R, R].
        captions: one for each image.
        boxes: where the images lie in their pictures, float64 [batch / ranks, 3] on the CPU
            (`datasets.patches`); None for whole pictures.
        """
        with contextlib.nullcontext() if self.graphs is None else self.graphs.capture.stream():
            self._step(images, captions, boxes)

    def _step(
        self, images: torch.Tensor, captions: Sequence[str], boxes: torch.Tensor | None
    ) -> None:
        config, index = self.config, self.progress.images // self.config.batch
        assert (boxes is not None) == bool(config.patches.side), "the loader draws the patches"
        for player in (self.player_d, self.player_g):
            player.scale_lr(config.lr_scale(self.progress.images))
        self.loss.view = View.square(config.side_at(self.progress.images))
        micro_batches = self._split(images, captions, boxes)

        regularise = index % config.loss.r1_interval == 0
        contrast = index % config.loss.cong_interval == 0
        lengths = bool(config.loss.path_length and index % config.loss.path_length_interval == 0)
        plan = None
        if self.graphs is not None:
            penalise = bool(config.loss.r1_gamma and regularise)
            kind = (self.loss.view, penalise, bool(config.loss.cong and contrast), lengths)
            plan = self.graphs.plan(kind, micro_batches[0])
        play = partial(self._play, micro_batches=micro_batches, plan=plan)

        # Step of D.
        play(self.player_d, loss=partial(self.loss.discriminator_loss, regularise=regularise))

        # Step of G. The centre of truncation is averaged with the decay of the averaged weights.
        generator_loss = partial(self.loss.generator_loss, contrast=contrast)
        tokens, taken = play(self.player_g, loss=generator_loss)
        assert tokens is not None  # generator_loss returns their sum
        centre = self.generator.tokens_mean
        decay = self.ema.decay(self.progress.images + config.batch, config.batch)
        centre.lerp_(torch.where(taken, tokens, centre), 1 - decay)

        # Second step of G, for the path length.
        if lengths:
            length, length_taken = play(self.player_g, loss=self.loss.path_length_loss)
            assert length is not None  # path_length_loss returns their sum
            self.loss.track_path_length(length, length_taken)
            taken = taken | length_taken

        # Clock, augmentation and averages.
        for name, value in self.generator.end_step().items():
            self.collector.report(name, value, finite_only=True)
        self.progress.images += config.batch
        self.augment.adapt(self.progress.images, config.batch)
        self.ema.update(self.generator, self.progress.images, config.batch)
        self.powers.update(self.generator, config.batch, taken)

    def check_finite(self) -> None:
        """Apply `nan_policy`, once a tick. Raises `NonFiniteError`, with the losses of the tick."""
        try:
            for player in (self.player_d, self.player_g):
                player.check(self.config.nan_policy)
        except NonFiniteError as error:
            means = self.collector.flush()
            losses = [f"{name} {x:.3g}" for name, x in means.items() if name.startswith("Loss/")]
            raise NonFiniteError(f"{error} (means of this tick: {', '.join(losses)})") from None

    def _split(
        self, images: torch.Tensor, captions: Sequence[str], boxes: torch.Tensor | None = None
    ) -> list[MicroBatch]:
        """Split this rank's share of a batch into micro batches on the device, with text features.

        At the start of a run with `start_resolution`, the images are shrunk.
        """
        first = rank() * self.micro_size * self.rounds
        stream = (self.config.seed, "step", self.progress.images, self.progress.rollbacks)
        parts = []
        for start in range(0, len(images), self.micro_size):
            piece = slice(start, start + self.micro_size)
            text = self._encode(captions[piece])
            real = from_uint8(images[piece].to(self.device, non_blocking=True))
            if self.loss.view.width < real.shape[-1]:
                real = fit_square(real, self.loss.view.width).clamp(-1, 1)
            real = real.contiguous(memory_format=torch.channels_last)
            rows = slice(first + start, first + start + self.micro_size)
            patches = None
            if boxes is not None:
                # A CUDA graph cannot read the memory of the CPU.
                places = boxes if self.graphs is None else to_device(boxes, self.device)
                patches = Patches(self.loss.view.width, places[piece])
            part = MicroBatch(real, text, rows, self.config.batch, stream, patches)
            if text is not None and self.config.text.noise:
                normal = part.normal("text-noise", text.sentence.shape[1:])
                part = replace(part, text=text.perturbed(normal, self.config.text.noise))
            parts.append(part)
        return parts

    def _encode(self, captions: Sequence[str]) -> TextFeatures | None:
        if not self.config.reads_text:
            return None
        assert self.text_encoder is not None  # TrainConfig.needs_encoder is True
        text = self.text_encoder.encode_text(captions).to(self.device)
        return text if self.graphs is None else text.padded(TOKENS)

    def _play(
        self,
        player: Player,
        micro_batches: list[MicroBatch],
        loss: Callable[[MicroBatch], tuple[torch.Tensor, torch.Tensor | None]],
        plan: StepPlan | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """One optimiser step of a player.

        loss: micro batch -> (its mean loss [], a sum over its rows of any shape, or None).
        plan: runs the loss and its backward pass as a CUDA graph, in place of `micro_batches`.

        Returns the mean of the sums over the batch of all ranks, or None, and whether the step was
        taken: [], bool.
        """
        self.discriminator.requires_grad_(player is self.player_d)
        if plan is None:
            player.begin()
            total = self._backward(micro_batches, loss)
        else:
            total = plan.play(player, self.loss, partial(self._backward, [plan.micro], loss))
        taken = player.step(self.collector)
        return None if total is None else sum_over_ranks(total) / self.config.batch, taken

    def _backward(
        self,
        micro_batches: list[MicroBatch],
        loss: Callable[[MicroBatch], tuple[torch.Tensor, torch.Tensor | None]],
    ) -> torch.Tensor | None:
        """Add the gradients of all micro batches -> the sum of the losses' sums, or None."""
        totals: list[torch.Tensor] = []
        for micro in micro_batches:
            value, total = loss(micro)
            (value * (self.micro_size / self.config.batch)).backward()
            if total is not None:
                totals.append(total)
        return sum(totals[1:], start=totals[0]) if totals else None
