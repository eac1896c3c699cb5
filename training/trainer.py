"""The objects of a run and one training step of them: D, then G, then the averages.

A step is a pure function of (state, seed, images seen): data position, latents, augmentation and the schedule of
regularisers all derive from the images seen. On one machine and thread count it repeats bit for bit on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from networks.coordinates import View
from networks.interfaces import TextEncoder, TextFeatures
from networks.pretrained.frozen import fit_square
from torch_utils.distributed import rank, sum_over_ranks, world_size
from torch_utils.rng import seed_for
from torch_utils.tensors import from_uint8
from torch_utils.training_stats import Collector
from training.augment import Augmentation, perturb_sentences
from training.config import TrainConfig
from training.ema import Ema, PowerAverages
from training.gan_loss import GanLoss, MicroBatch
from training.optimize import Player


@dataclass
class Progress:
    """The clock: real images shown. snapshot_images: the clock at the last snapshot. rollbacks shifts every random
    stream after a rollback. dataset_hash and run_id tell whose progress this is."""

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
    """Live objects of a run on one rank; `objects` is the list that a checkpoint holds.

    encoder: the frozen towers, whose image tower ConD and ConG ask; text_encoder: answers for captions, for example
    from a cache (None = the encoder itself). Both are None where nothing reads text.
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
        torch.manual_seed(seed_for(config.seed, "init"))  # the only draw from torch's global stream
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
        self.loss = GanLoss(
            self.generator,
            self.discriminator,
            encoder,
            self.augment,
            config.loss,
            config.resolution,
            self.collector,
            config.precision,
            keep_fakes=self.rounds == 1,
        )

    @property
    def objects(self) -> dict:
        optional = {"power_averages": self.powers} if self.config.ema.posthoc else {}
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

    def step(self, images: torch.Tensor, captions: Sequence[str]) -> None:
        """One step on this rank's share of the batch: images uint8 [B / ranks, 3, R, R] and their captions."""
        config, index = self.config, self.progress.images // self.config.batch
        for player in (self.player_d, self.player_g):
            player.scale_lr(config.lr_scale(self.progress.images))
        self.loss.view = View.square(config.side_at(self.progress.images))
        micro_batches = self._split(images, captions)
        regularise, contrast = (
            index % config.loss.r1_interval == 0,
            index % config.loss.cong_interval == 0,
        )
        self._play(
            self.player_d,
            micro_batches,
            partial(self.loss.discriminator_loss, regularise=regularise),
        )
        generator_loss = partial(self.loss.generator_loss, contrast=contrast)
        tokens, taken = self._play(self.player_g, micro_batches, generator_loss)
        assert tokens is not None  # generator_loss sums them
        centre = self.generator.tokens_mean  # of truncation; it follows the averaged weights
        decay = self.ema.decay(self.progress.images + config.batch, config.batch)
        centre.lerp_(torch.where(taken, tokens, centre), 1 - decay)
        if config.loss.path_length and index % config.loss.path_length_interval == 0:
            length, regularised = self._play(
                self.player_g, micro_batches, self.loss.path_length_loss
            )
            assert length is not None  # path_length_loss sums them
            self.loss.track_path_length(length, regularised)
            taken = taken | regularised
        for name, value in self.generator.end_step().items():
            self.collector.report(name, value, finite_only=True)
        self.progress.images += config.batch
        self.augment.adapt(self.progress.images, config.batch)
        self.ema.update(self.generator, self.progress.images, config.batch)
        self.powers.update(self.generator, config.batch, taken)

    def check_finite(self) -> None:
        """What `nan_policy` asks for; once a tick. Raises `NonFiniteError`."""
        for player in (self.player_d, self.player_g):
            player.check(self.config.nan_policy)

    def _split(self, images: torch.Tensor, captions: Sequence[str]) -> list[MicroBatch]:
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
            part = MicroBatch(real, text, rows, self.config.batch, stream)
            if text is not None and self.config.text.noise:
                sentence = perturb_sentences(
                    text.sentence,
                    part.normal("text-noise", text.sentence.shape[1:]),
                    self.config.text.noise,
                )
                part = replace(part, text=replace(text, sentence=sentence))
            parts.append(part)
        return parts

    def _encode(self, captions: Sequence[str]) -> TextFeatures | None:
        if not self.config.reads_text:
            return None
        assert self.text_encoder is not None  # TrainConfig.needs_encoder
        return self.text_encoder.encode_text(captions).to(self.device)

    def _play(
        self,
        player: Player,
        micro_batches: list[MicroBatch],
        loss: Callable[[MicroBatch], tuple[torch.Tensor, torch.Tensor | None]],
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """One optimiser step of a loss -> (loss, sum of what else it saw): that sum's mean over the
        batch, and whether the step was taken [], bool.
        """
        player.begin()
        self.discriminator.requires_grad_(player is self.player_d)
        totals: list[torch.Tensor] = []
        for micro in micro_batches:
            value, total = loss(micro)
            (value * (self.micro_size / self.config.batch)).backward()
            if total is not None:
                totals.append(total)
        taken = player.step(self.collector)
        if not totals:
            return None, taken
        return sum_over_ranks(sum(totals[1:], start=totals[0])) / self.config.batch, taken
