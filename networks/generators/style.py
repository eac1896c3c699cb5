"""Parts that generators share: text fields of a config, the mapping to one style, the output."""

from __future__ import annotations

import abc
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import torch

from dnnlib.bounds import NotNegative, Positive
from dnnlib.errors import UserError
from networks.interfaces import Codes, Generator, TextFeatures
from networks.layers.mapping import TokenMapping

Output = Literal["linear", "tanh", "clip"]

# How far beyond -1 and 1 a gradient may still push a value that `Clip` cuts off.
_MARGIN = 0.25


class Clip(torch.autograd.Function):
    """Values clipped to [-1, 1], with a gradient that never vanishes for good.

    The derivative of a clipped value is 0 outside of [-1, 1], so a generator that draws white
    everywhere would never change again; tanh has nearly the same fault. Here a gradient passes
    unchanged, except where a step against it would move a value beyond -1.25 or 1.25 further out.
    This is projected gradient descent on [-1.25, 1.25]. The margin lets flat white and black lie
    safely inside of what is cut off.
    """

    @staticmethod
    def forward(ctx: Any, image: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(image)
        return image.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (image,) = ctx.saved_tensors
        limit = 1 + _MARGIN
        outwards = ((image > limit) & (gradient < 0)) | ((image < -limit) & (gradient > 0))
        return gradient.masked_fill(outwards, 0)


def to_output(image: torch.Tensor, output: Output) -> torch.Tensor:
    """The last step of a generator.

    `linear` returns the image, `tanh` maps it into [-1, 1], and `clip` clips it to [-1, 1] with the
    gradient of `Clip`.
    """
    if output == "tanh":
        return image.tanh()
    if output == "clip":
        return Clip.apply(image) if torch.is_grad_enabled() else image.clamp(-1, 1)
    return image


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions(abc.ABC):
    """Base of every generator's config.

    A subclass defines `sentence_dim` and `word_dim`, as fields, constants or properties.

    text_noise: length of the noise on the sentence in sampling, relative to the sentence
        (`TextFeatures.perturbed`). If a generator was trained with such noise, it makes the
        pictures of a prompt more varied; they may match the prompt less.
    """

    text_noise: NotNegative = 0.0

    @property
    @abc.abstractmethod
    def sentence_dim(self) -> int:
        """Width of the sentence embedding, 0 = not read."""

    @property
    @abc.abstractmethod
    def word_dim(self) -> int:
        """Width of the word features, 0 = not read."""

    @property
    def any_view(self) -> bool:
        """Whether the generator draws any part of the plane, at any size."""
        return True

    def with_text(self, sentence_dim: int, word_dim: int) -> Self:
        """The same config for a text encoder of these widths; inputs of width 0 stay off."""
        new = {"sentence_dim": sentence_dim, "word_dim": word_dim}
        return replace(self, **{name: width for name, width in new.items() if getattr(self, name)})

    def with_samples(self, samples: int) -> Self:
        """The same config with that many points a side of each pixel.

        Raises `UserError` for systems that draw one point a pixel.
        """
        if "samples" in {field.name for field in fields(self)}:
            return replace(self, **{"samples": samples})
        if samples == 1:
            return self
        kind = getattr(self, "kind", "")
        raise UserError(
            f"samples {samples}: networks of kind {kind} draw one point a pixel; leave it out"
        )

    def condition_dim(self, sentence_dim: int) -> int:
        """Width of the sentence that the discriminator reads (`Generator.condition`); 0 = none.

        sentence_dim: width of the encoder's sentence embedding. The discriminator reads this
            embedding, except in systems that override both methods.
        """
        return sentence_dim if self.sentence_dim or self.word_dim else 0


@dataclass(frozen=True, kw_only=True)
class StyleOptions(GeneratorOptions):
    """Base of the configs of `StyleGenerator`.

    mapping_lr_multiplier: factor of the mapping network's learning rate (`TokenMapping`).
    """

    mapping_lr_multiplier: Positive = 0.01


class StyleGenerator(Generator):
    """Base of the generators that map a latent vector and the sentence to one style code.

    Their configs are `StyleOptions` with `style_dim`, `mapping_layers`, `sentence_dim` and
    `output`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__((1, config.style_dim))
        self.config = config
        self.mapping_network = TokenMapping(
            1,
            config.style_dim,
            num_layers=config.mapping_layers,
            lr_multiplier=config.mapping_lr_multiplier,
            sentence_dim=config.sentence_dim,
        )

    def mapping(self, z: torch.Tensor, text: TextFeatures | None) -> Codes:
        sentence = self.require_text(text).sentence if self.config.sentence_dim else None
        return Codes(self.mapping_network(z, sentence=sentence), z.new_zeros(z.shape[0], 0))
