"""Which terms make up D's and G's loss in a step, and which random draws they take.

Every draw is made for the whole batch of the step from a named stream and sliced to the rows at hand, so a picture's
draws do not depend on how the batch is split. Four terms look at the other rows of the same forward
and so do see the split: minibatch statistics of D, mismatched texts, the negatives of ConD and ConG
(those of all ranks), and the target of the path length; so do batch norms.
N ranks equal one rank with N accumulation rounds in all of them but the negatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch

from networks.coordinates import View
from networks.interfaces import (
    Codes,
    Discriminator,
    Generator,
    ImageTextEncoder,
    TextEncoder,
    TextFeatures,
    Verdict,
)
from torch_utils.precision import autocast
from torch_utils.rng import generator_for, normal_per_row
from torch_utils.tensors import to_device
from torch_utils.training_stats import Collector
from training import losses
from training.augment import Augmentation
from training.config import LossConfig


@dataclass(frozen=True)
class MicroBatch:
    """What one forward sees: rows `rows` of a step's batch.

    images [n, 3, R, R] float in [-1, 1]; text of n rows or None; stream names the step (seed, images seen, ...).
    """

    images: torch.Tensor
    text: TextFeatures | None
    rows: slice
    batch: int
    stream: tuple[int | str, ...]

    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal [n, *shape] on the images' device."""
        return self._mine(
            torch.randn(self.batch, *shape, generator=generator_for(*self.stream, purpose))
        )

    def uniform(self, purpose: str, width: int) -> torch.Tensor:
        """Uniform in [0, 1), [n, width] on the images' device."""
        return self._mine(
            torch.rand(self.batch, width, generator=generator_for(*self.stream, purpose))
        )

    def large_normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """As `normal`, of a stream for each row, where drawing the other rows' would cost more than the streams."""
        return to_device(
            normal_per_row(range(self.rows.start, self.rows.stop), shape, *self.stream, purpose),
            self.images.device,
        )

    def _mine(self, draws: torch.Tensor) -> torch.Tensor:
        return to_device(draws[self.rows], self.images.device)


@dataclass(frozen=True)
class Fakes:
    """One forward of G: the texts asked for, codes, images [n, 3, R, R], and what D senses of the
    augmented images.
    """

    text: TextFeatures | None
    codes: Codes
    images: torch.Tensor
    sensed: tuple[torch.Tensor, ...]


class GanLoss:
    """Losses of both players, each a mean over its micro batch; `encoder` needs an image tower for
    ConD and ConG.

    keep_fakes: with `shared_fakes`, the fakes that `discriminator_loss` drew are kept, with their
    graph, for the `generator_loss` of the same micro batch. That serves steps of one micro batch a
    rank; without, they are drawn again.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        encoder: TextEncoder | None,
        augment: Augmentation,
        config: LossConfig,
        resolution: int,
        collector: Collector,
        precision: str = "auto",
        keep_fakes: bool = False,
    ) -> None:
        self.generator, self.discriminator, self.encoder = generator, discriminator, encoder
        self.augment, self.config, self.view, self.collector = (
            augment,
            config,
            View.square(resolution),
            collector,
        )
        self.precision, self.keep_fakes = precision, keep_fakes
        self._kept: Fakes | None = None
        # NaN until a step has measured it.
        self.path_length_mean = torch.full((), math.nan, device=generator.tokens_mean.device)

    def state_dict(self) -> dict:
        mean = self.path_length_mean
        return {"path_length_mean": None if mean.isnan() else mean}

    def load_state_dict(self, state: dict) -> None:
        mean = state["path_length_mean"]
        self.path_length_mean.fill_(math.nan) if mean is None else self.path_length_mean.copy_(mean)

    def _encode_image(self, images: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.encoder, ImageTextEncoder)  # training.launch asks for it
        return self.encoder.encode_image(images)

    def codes(self, micro: MicroBatch, purpose: str) -> Codes:
        """Style codes of fresh latents; with style mixing, a tail of them from a second latent."""
        codes = self.generator.mapping(
            micro.normal(purpose, self.generator.latent_shape), micro.text
        )
        if self.config.style_mixing:
            other = self.generator.mapping(
                micro.normal(purpose + "-mix", self.generator.latent_shape), micro.text
            )
            num_tokens = codes.tokens.shape[1]
            draws = micro.uniform(purpose + "-cut", 2)
            cut = torch.where(
                draws[:, 0] < self.config.style_mixing,
                (draws[:, 1] * num_tokens).floor(),
                num_tokens,
            )
            behind = torch.arange(num_tokens, device=cut.device) >= cut[:, None]
            codes = replace(
                codes, tokens=torch.where(behind[:, :, None], other.tokens, codes.tokens)
            )
        return codes

    def draw(self, micro: MicroBatch, player: Literal["d", "g"]) -> Fakes:
        """Fakes for a player; D's draws for both where `shared_fakes` is set."""
        player = "d" if self.config.shared_fakes else player
        codes = self.codes(micro, f"z-{player}")
        images = self.generator.synthesis(codes, self.view)
        uniforms = partial(micro.uniform, {"d": "augment-d-fake", "g": "augment-g"}[player])
        sensed = self.discriminator.sense(self.augment(images, uniforms))
        return Fakes(micro.text, codes, images, sensed)

    def _for_discriminator(self, micro: MicroBatch) -> Fakes:
        if self.keep_fakes and self.config.shared_fakes:
            self._kept = self.draw(micro, "d")
            return self._kept
        with torch.no_grad():
            return self.draw(micro, "d")

    def _for_generator(self, micro: MicroBatch) -> Fakes:
        kept, self._kept = self._kept, None
        return kept or self.draw(micro, "g")

    def _judge(self, fakes: Fakes, sensed: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Logits of the fakes by what is sensed of them, with or without gradient."""
        hidden = self.discriminator.read(sensed)
        return self.discriminator.judge(hidden, self.generator.condition(fakes.text)).logits

    def discriminator_loss(
        self, micro: MicroBatch, *, regularise: bool
    ) -> tuple[torch.Tensor, None]:
        """Adversarial terms, mismatched texts, ConD and MA-GP every step; R1, times its interval,
        where `regularise`.
        """
        config, report = self.config, self.collector.report
        pay = losses.ADVERSARIAL[config.adversarial]
        with autocast(micro.images.device, self.precision):
            fakes = self._for_discriminator(micro)
            fake = self._judge(fakes, tuple(x.detach() for x in fakes.sensed))
            text = told = self.generator.condition(micro.text)

            reals = self.augment(micro.images, partial(micro.uniform, "augment-d-real")).detach()
            penalise = bool(config.r1_gamma and regularise)
            if penalise or config.matching_aware_gp:
                reals.requires_grad_(True)
            if config.matching_aware_gp:
                assert text is not None  # TrainConfig asks for it
                text = replace(text, sentence=text.sentence.detach().requires_grad_(True))
            hidden = self.discriminator.trunk(reals)
            real = self.discriminator.judge(hidden, text)

            fake_term = pay.fake(fake)
            if config.mismatch:
                assert told is not None  # TrainConfig asks for it
                wrong = self.discriminator.judge(hidden, told.roll(1)).logits
                fake_term = (fake_term + config.mismatch * pay.fake(wrong)) / (1 + config.mismatch)
                report("Logits/mismatch", wrong)
            loss = fake_term + pay.real(real.logits)
            report("Loss/D", loss)
            report("Logits/fake", fake)
            report("Logits/real", real.logits)
            self.augment.observe(real.logits)
            if config.cond:
                loss = loss + config.cond * self._cond(micro, real)
            if config.matching_aware_gp:
                assert text is not None
                term = losses.matching_aware_penalty(real.logits, reals, text.sentence)
                report("Loss/MAGP", term)
                loss = loss + config.matching_aware_gp * term
            if penalise:
                term = losses.r1_penalty(real.logits, reals)
                report("Loss/R1", term)
                loss = loss + term * (config.r1_gamma / 2 * config.r1_interval)
        return loss, None

    def _cond(self, micro: MicroBatch, real: Verdict) -> torch.Tensor:
        with torch.no_grad():
            anchors = self._encode_image(micro.images)
        assert real.features is not None  # TrainConfig asks for it
        term = losses.info_nce(real.features, anchors, self.config.temperature)
        self.collector.report("Loss/ConD", term)
        return term

    def generator_loss(
        self, micro: MicroBatch, *, contrast: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adversarial term; ConG, times its interval, where `contrast`; also the sum of the style
        codes [k, d].
        """
        config, report = self.config, self.collector.report
        with autocast(micro.images.device, self.precision):
            fakes = self._for_generator(micro)
            codes = fakes.codes
            logits = self._judge(fakes, fakes.sensed)
            loss = losses.ADVERSARIAL[config.adversarial].generator(logits)
            report("Loss/G", loss)
            if codes.commitment is not None:
                term = codes.commitment.mean()
                report("Loss/commitment", term)
                loss = loss + term
            if config.cong and contrast:
                images = self._encode_image(fakes.images)
                assert fakes.text is not None  # TrainConfig asks for it
                term = losses.info_nce(images, fakes.text.sentence, config.temperature)
                report("Loss/ConG", term)
                loss = loss + term * (config.cong * config.cong_interval)
        return loss, codes.tokens.detach().float().sum(dim=0)

    def path_length_loss(self, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """StyleGAN2's path length term, times its interval, and the sum of this micro batch's lengths."""
        config = self.config
        with autocast(micro.images.device, self.precision):
            codes = self.codes(micro, "z-path")
            if not codes.tokens.requires_grad:  # no mapping network: the codes are the latents
                codes = replace(codes, tokens=codes.tokens.requires_grad_(True))
            images = self.generator.synthesis(codes, self.view)
            lengths = losses.path_lengths(
                images, codes.tokens, micro.large_normal("path", images.shape[1:])
            )
        target = self._path_length_mean_after(lengths.detach().mean())
        penalty = (lengths - target).square().mean()
        self.collector.report("Loss/path_length", penalty)
        return penalty * (config.path_length * config.path_length_interval), lengths.detach().sum()

    def track_path_length(self, mean_length: torch.Tensor, taken: torch.Tensor) -> None:
        """Move the running mean towards the whole batch's mean length, if the step was taken."""
        after = self._path_length_mean_after(mean_length)
        self.path_length_mean = torch.where(taken, after, self.path_length_mean)

    def _path_length_mean_after(self, length: torch.Tensor) -> torch.Tensor:
        before = torch.where(self.path_length_mean.isnan(), length, self.path_length_mean)
        return before.lerp(length, self.config.path_length_decay)
