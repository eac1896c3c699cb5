"""The losses of D and G in a step: their terms and their random draws.

Random numbers are drawn for the whole batch of a step from a named stream and sliced to the rows of
a micro batch. So the numbers of a picture do not depend on the split of the batch.

Some terms use the other rows of a forward pass, so they do depend on the split: minibatch
statistics of D, mismatched texts, the negatives of ConD and ConG (those of all ranks), the target
of the path length, the units of IMLE, and batch norms. N ranks give the same as one rank with N
accumulation rounds. Only ConD and ConG differ: their negatives come from all ranks, but not from
other rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

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
from torch_utils.training_stats import Collector
from training import losses
from training.augment import Augmentation
from training.imle import nearest_latents, paired_rows
from training.loss_config import LossConfig
from training.micro_batch import MicroBatch
from training.teacher import Teacher


@dataclass(frozen=True)
class Fakes:
    """The result of one forward pass of G.

    text: text features of the images, or None. codes: style codes. images: [n, 3, R, R].
    sensed: the output of D's `sense` for the augmented images. reals: the same for the real images
    of the micro batch, without a gradient; empty until D's loss has sensed them.
    """

    text: TextFeatures | None
    codes: Codes
    images: torch.Tensor
    sensed: tuple[torch.Tensor, ...]
    reals: tuple[torch.Tensor, ...] = ()


class GanLoss:
    """The losses of D and G, each a mean over a micro batch.

    encoder: needs an image tower for ConD and ConG; may be None without these terms.
    collector: receives the means of loss terms and logits.
    teacher: the network of `config.teacher`; may be None where its weight is 0.
    keep_fakes: with `config.shared_fakes`, `discriminator_loss` keeps its fakes and their graph,
        and `generator_loss` of the same micro batch uses them. Only possible if a step has one
        micro batch on each rank. Otherwise G draws the same fakes again.
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
        teacher: Teacher | None = None,
    ) -> None:
        self.generator, self.discriminator, self.encoder = generator, discriminator, encoder
        self.augment, self.config, self.collector = augment, config, collector
        self.view = View.square(resolution)
        self.precision, self.keep_fakes, self.teacher = precision, keep_fakes, teacher
        self._kept_fakes: Fakes | None = None
        # The running mean of path lengths; NaN until the first step with path lengths.
        self.path_length_mean = torch.full((), math.nan, device=generator.tokens_mean.device)

    def state_dict(self) -> dict:
        mean = self.path_length_mean
        return {"path_length_mean": None if mean.isnan() else mean}

    def load_state_dict(self, state: dict) -> None:
        mean = state["path_length_mean"]
        self.path_length_mean.fill_(math.nan) if mean is None else self.path_length_mean.copy_(mean)

    def _encode_image(self, images: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.encoder, ImageTextEncoder)  # training.launch has checked it
        return self.encoder.encode_image(images)

    def codes(self, micro: MicroBatch, purpose: str) -> Codes:
        """Style codes of new latents.

        With style mixing, the codes after a random position come from a second latent.
        """
        latents = micro.normal(purpose, self.generator.latent_shape)
        if self.config.imle and purpose == "z-d":
            latents[paired_rows(micro)] = nearest_latents(
                self.generator, micro, self.view, self.config.imle_latents, self.collector
            )
        codes = self.generator.mapping(latents, micro.text)
        if self.config.style_mixing:
            second = self.generator.mapping(
                micro.normal(purpose + "-mix", self.generator.latent_shape), micro.text
            )
            num_tokens = codes.tokens.shape[1]
            draws = micro.uniform(purpose + "-cut", 2)
            cut = torch.where(
                draws[:, 0] < self.config.style_mixing,
                1 + (draws[:, 1] * (num_tokens - 1)).floor(),
                num_tokens,
            )
            after_cut = torch.arange(num_tokens, device=cut.device) >= cut[:, None]
            codes = replace(
                codes, tokens=torch.where(after_cut[:, :, None], second.tokens, codes.tokens)
            )
        return codes

    def draw(self, micro: MicroBatch, player: Literal["d", "g"]) -> Fakes:
        """Generate fakes for the loss of a player.

        With `shared_fakes`, both players use the latents and the augmentation of D.
        """
        codes = self.codes(micro, self._latents(player))
        player = "d" if self.config.shared_fakes else player
        images = self._images(codes, micro)
        # IMLE compares fakes with real images, so both are augmented alike.
        fakes_of_d = "augment-d-real" if self.config.imle else "augment-d-fake"
        uniforms = partial(micro.uniform, {"d": fakes_of_d, "g": "augment-g"}[player])
        sensed = self.discriminator.sense(self.augment(images, uniforms))
        return Fakes(micro.text, codes, images, sensed)

    def _latents(self, player: Literal["d", "g"]) -> str:
        """The name of the stream of latents that a player's fakes are drawn from."""
        return "z-d" if self.config.shared_fakes else f"z-{player}"

    def _images(self, codes: Codes, micro: MicroBatch) -> torch.Tensor:
        """The whole frames of the codes, or their patches at the places of the real images."""
        if micro.patches is None:
            return self.generator.synthesis(codes, self.view)
        return self.generator.draw_patches(codes, micro.patches)

    def _for_discriminator(self, micro: MicroBatch) -> Fakes:
        if self.keep_fakes and self.config.shared_fakes:
            self._kept_fakes = self.draw(micro, "d")
            return self._kept_fakes
        with torch.no_grad():
            return self.draw(micro, "d")

    def _for_generator(self, micro: MicroBatch) -> Fakes:
        fakes, self._kept_fakes = self._kept_fakes, None
        fakes = fakes or self.draw(micro, "g")
        if self.config.imle and not fakes.reals:
            with torch.no_grad():
                fakes = replace(fakes, reals=self.discriminator.sense(self._reals(micro)))
        return fakes

    def _reals(self, micro: MicroBatch) -> torch.Tensor:
        """The augmented real images, a leaf tensor."""
        return self.augment(micro.images, partial(micro.uniform, "augment-d-real")).detach()

    def _judge(self, micro: MicroBatch, hidden: Any, condition: TextFeatures | None) -> Verdict:
        """D's verdict on the result of its `trunk`; with patches it reads their places, too."""
        if micro.patches is not None:
            condition = micro.patches.joined_to(condition, micro.images.device)
        return self.discriminator.judge(hidden, condition)

    def _judge_fakes(
        self, micro: MicroBatch, fakes: Fakes, sensed: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """Logits of the fakes. `sensed` is `fakes.sensed`, detached for the loss of D."""
        condition = self.generator.condition(fakes.text)
        return self._judge(micro, self.discriminator.read(sensed), condition).logits

    def discriminator_loss(
        self, micro: MicroBatch, *, regularise: bool
    ) -> tuple[torch.Tensor, None]:
        """The loss of D [] in every step, and None in place of a sum of codes.

        It has the adversarial terms, mismatched texts, ConD and MA-GP. If `regularise`, R1 times
        its interval is added.
        """
        config, report = self.config, self.collector.report
        adversarial = losses.ADVERSARIAL[config.adversarial]
        with autocast(micro.images.device, self.precision):
            # Logits of fakes.
            fakes = self._for_discriminator(micro)
            fake = self._judge_fakes(micro, fakes, tuple(x.detach() for x in fakes.sensed))

            # Logits of real images. Gradient penalties need gradients of the images and of the
            # sentence features.
            condition = self.generator.condition(micro.text)
            text = condition
            reals = self._reals(micro)
            penalise = bool(config.r1_gamma and regularise)
            if penalise or config.matching_aware_gp:
                reals.requires_grad_(True)
            if config.matching_aware_gp:
                assert text is not None  # TrainConfig has checked it
                text = replace(text, sentence=text.sentence.detach().requires_grad_(True))
            sensed = self.discriminator.sense(reals)
            if self._kept_fakes is not None and config.imle:
                sensed_reals = tuple(x.detach() for x in sensed)
                self._kept_fakes = replace(self._kept_fakes, reals=sensed_reals)
            hidden = self.discriminator.read(sensed)
            real = self._judge(micro, hidden, text)

            # Adversarial terms; real images with the text of another image count as fakes.
            fake_term = adversarial.fake(fake)
            if config.mismatch:
                assert condition is not None  # TrainConfig has checked it
                mismatch = self._judge(micro, hidden, condition.roll(1)).logits
                mismatch_term = adversarial.fake(mismatch)
                fake_term = (fake_term + config.mismatch * mismatch_term) / (1 + config.mismatch)
                report("Logits/mismatch", mismatch)
            loss = fake_term + adversarial.real(real.logits)
            report("Loss/D", loss)
            report("Logits/fake", fake)
            report("Logits/real", real.logits)
            self.augment.observe(real.logits)

            # Contrastive term and gradient penalties.
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
        """ConD: D's features of the real images against their features by the image tower."""
        with torch.no_grad():
            anchors = self._encode_image(micro.images)
        assert real.features is not None  # TrainConfig has checked it
        term = losses.info_nce(real.features, anchors, self.config.temperature)
        self.collector.report("Loss/ConD", term)
        return term

    def generator_loss(
        self, micro: MicroBatch, *, contrast: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of G [], and the sum of the style codes over the micro batch [k, d].

        The loss has the adversarial term and the commitment of quantized codes. If `contrast`, ConG
        times its interval is added.
        """
        config, report = self.config, self.collector.report
        with autocast(micro.images.device, self.precision):
            fakes = self._for_generator(micro)
            codes = fakes.codes
            logits = self._judge_fakes(micro, fakes, fakes.sensed)
            loss = losses.ADVERSARIAL[config.adversarial].generator(logits)
            report("Loss/G", loss)
            if config.imle:  # half of the rows take part
                term = 2 * losses.feature_distance(fakes.sensed, fakes.reals, paired_rows(micro))
                report("Loss/IMLE", term)
                loss = loss + config.imle * term
            if config.teacher:
                assert self.teacher is not None
                latents = micro.normal(self._latents("g"), self.generator.latent_shape)
                term = self.teacher.distance(latents, fakes.text, fakes.images, micro.patches)
                report("Loss/teacher", term)
                loss = loss + config.teacher * term
            if codes.commitment is not None:
                term = codes.commitment.mean()
                report("Loss/commitment", term)
                loss = loss + term
            if config.cong and contrast:
                images = self._encode_image(fakes.images)
                assert fakes.text is not None  # TrainConfig has checked it
                term = losses.info_nce(images, fakes.text.sentence, config.temperature)
                report("Loss/ConG", term)
                loss = loss + term * (config.cong * config.cong_interval)
        return loss, codes.tokens.detach().float().sum(dim=0)

    def path_length_loss(self, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """StyleGAN2's path length term times its interval [], and the sum of the lengths []."""
        config = self.config
        with autocast(micro.images.device, self.precision):
            codes = self.codes(micro, "z-path")
            if not codes.tokens.requires_grad:  # without a mapping network, codes are the latents
                codes = replace(codes, tokens=codes.tokens.requires_grad_(True))
            images = self._images(codes, micro)
            lengths = losses.path_lengths(
                images, codes.tokens, micro.large_normal("path", images.shape[1:])
            )
        target = self._path_length_mean_after(lengths.detach().mean())
        penalty = (lengths - target).square().mean()
        self.collector.report("Loss/path_length", penalty)
        return penalty * (config.path_length * config.path_length_interval), lengths.detach().sum()

    def track_path_length(self, mean_length: torch.Tensor, taken: torch.Tensor) -> None:
        """Update the running mean of path lengths after a step.

        mean_length: over the batch of all ranks []. taken: [], bool; False = the step was skipped.
        """
        after = self._path_length_mean_after(mean_length)
        # In place: a CUDA graph of the step reads the mean at its address.
        self.path_length_mean.copy_(torch.where(taken, after, self.path_length_mean))

    def _path_length_mean_after(self, length: torch.Tensor) -> torch.Tensor:
        """The running mean of path lengths after an update by the mean `length` [] of a batch."""
        before = torch.where(self.path_length_mean.isnan(), length, self.path_length_mean)
        return before.lerp(length, self.config.path_length_decay)
