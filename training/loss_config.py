"""The weights of the loss terms of D and G (`training.gan_loss`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dnnlib.bounds import AtLeastOne, NotNegative, Positive, Probability, check_bounds
from dnnlib.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the loss terms. A term of weight 0 is not computed.

    adversarial: the logistic terms of Goodfellow et al. 2014, or the hinge terms of Lim and Ye
        2017.
    shared_fakes: G is judged on the fakes that D has just learned from. One pass of G and of the
        frozen part of D then serves both players. Where the batch accumulates over several
        forwards, the pass is repeated with the same draws, which keeps memory low.
    r1_gamma, r1_interval: weight of R1, which is computed every `r1_interval` D steps and scaled
        by the interval.
    mismatch: weight of D's loss on real pictures with the text of another picture.
    cond, cong, temperature: weights of ConD and ConG, and their temperature.
    cong_interval: ConG is computed every so many G steps and scaled by the interval; this saves
        passes of the image tower.
    matching_aware_gp: weight of MA-GP, computed every D step (2 in DF-GAN).
    imle: weight of G's distance to the real picture of the same text, for half of the samples. Of
        `imle_latents` latents, the one counts whose picture comes nearest (implicit maximum
        likelihood, Li and Malik 2018). So G cannot leave out what the real pictures show. Needs
        `shared_fakes`.
    teacher: weight of G's distance to the pictures of the network of `init_from`, at the size that
        D reads, or at which it was trained if that is smaller (AnyresGAN, Chai et al. 2022;
        `training.teacher`).
    path_length, path_length_interval, path_length_decay: StyleGAN2's regulariser, computed every
        so many G steps.
    style_mixing: probability that the style codes behind a random cut come from a second latent.
    """

    adversarial: Literal["logistic", "hinge"] = "logistic"
    shared_fakes: bool = False
    r1_gamma: NotNegative = 1.0
    r1_interval: AtLeastOne = 16
    mismatch: NotNegative = 0.0
    cond: NotNegative = 0.0
    cong: NotNegative = 0.0
    cong_interval: AtLeastOne = 1
    temperature: Positive = 0.1
    matching_aware_gp: NotNegative = 0.0
    imle: NotNegative = 0.0
    imle_latents: AtLeastOne = 8
    teacher: NotNegative = 0.0
    path_length: NotNegative = 0.0
    path_length_interval: AtLeastOne = 4
    path_length_decay: Probability = 0.01
    style_mixing: Probability = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, "loss.")
        if self.imle and (self.style_mixing or not self.shared_fakes):
            raise UserError(
                "loss.imle: compares fakes with the real pictures that D has just read; add --set "
                "loss.shared_fakes=true and leave loss.style_mixing at 0"
            )
        if self.teacher and (self.imle or self.style_mixing):
            raise UserError(
                "loss.teacher: G and its teacher draw the same latents; leave loss.imle and "
                "loss.style_mixing at 0"
            )
