"""A wrapper that quantises the text of any generator; `--set text.quantizer={}` trains it.

The sentence and the words are each quantised by a code book (networks/layers/vector_quantizer.py)
before the generator reads them. The discriminator reads the quantised text too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import nn

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators.style import GeneratorOptions
from networks.generators.systems import SystemConfig
from networks.interfaces import Codes, Generator, TextFeatures
from networks.layers.vector_quantizer import FeatureQuantizer, VectorQuantizerConfig


@dataclass(frozen=True, kw_only=True)
class QuantizedConfig(GeneratorOptions):
    """Config of a generator with quantised text.

    generator: config of the generator that reads the quantised text.
    quantizer: config of the two code books, one for the sentence and one for the words.
    """

    kind: ClassVar[str] = "quantized"

    generator: SystemConfig
    quantizer: VectorQuantizerConfig = field(default_factory=VectorQuantizerConfig)

    def __post_init__(self) -> None:
        if not (self.sentence_dim or self.word_dim):
            raise UserError("text.quantizer: the generator is unconditional, it reads no text")

    @property
    def sentence_dim(self) -> int:
        return self.generator.sentence_dim

    @property
    def word_dim(self) -> int:
        return self.generator.word_dim

    @property
    def any_view(self) -> bool:
        return self.generator.any_view

    @property
    def samples(self) -> int:
        return getattr(self.generator, "samples", 1)

    def with_samples(self, samples: int) -> QuantizedConfig:
        return replace(self, generator=self.generator.with_samples(samples))

    def with_text(self, sentence_dim: int, word_dim: int) -> QuantizedConfig:
        return replace(self, generator=self.generator.with_text(sentence_dim, word_dim))

    def condition_dim(self, sentence_dim: int) -> int:
        return self.generator.condition_dim(sentence_dim)

    def build(self) -> QuantizedGenerator:
        return QuantizedGenerator(self)


class QuantizedGenerator(Generator):
    """The wrapper of `.generator`; latents, style codes and views are those of `.generator`."""

    def __init__(self, config: QuantizedConfig) -> None:
        generator = config.generator.build()
        super().__init__((generator.tokens_mean.shape[0], generator.tokens_mean.shape[1]))
        self.config, self.generator, self.latent_shape = config, generator, generator.latent_shape
        self.takes_patches = generator.takes_patches
        widths = {"sentence": config.sentence_dim, "words": config.word_dim}
        self.quantizers = nn.ModuleDict(
            {
                name: FeatureQuantizer(width, config.quantizer)
                for name, width in widths.items()
                if width
            }
        )

    def use_samples(self, samples: int | None) -> None:
        super().use_samples(samples)
        self.generator.use_samples(samples)

    def quantize(self, text: TextFeatures | None) -> tuple[TextFeatures, torch.Tensor]:
        """(quantised text features, commitment loss [N] of each sample)."""
        text = self.require_text(text)
        commitment = torch.zeros(len(text), device=text.sentence.device)
        if "sentence" in self.quantizers:
            quantized = self.quantizers["sentence"](text.sentence.unsqueeze(1))
            text = replace(text, sentence=quantized.codes.squeeze(1))
            commitment = commitment + quantized.commitment
        if "words" in self.quantizers:
            quantized = self.quantizers["words"](text.words, text.mask)
            text = replace(text, words=quantized.codes)
            commitment = commitment + quantized.commitment
        return text, commitment

    def mapping(self, z: torch.Tensor, text: TextFeatures | None) -> Codes:
        quantized, commitment = self.quantize(text)
        codes = self.generator.mapping(z, quantized)
        if codes.commitment is not None:  # of a generator that also has a quantiser
            commitment = commitment + codes.commitment
        return replace(codes, commitment=commitment)

    def prepare(self, codes: Codes, view: View) -> Any:
        return self.generator.prepare(codes, view)

    def render(self, prepared: Any, rows: slice, columns: slice) -> torch.Tensor:
        return self.generator.render(prepared, rows, columns)

    @torch.no_grad()
    def condition(self, text: TextFeatures | None) -> TextFeatures | None:
        return self.generator.condition(self.quantize(text)[0])

    def end_step(self) -> dict[str, torch.Tensor]:
        logged = self.generator.end_step()
        for part, quantizer in self.quantizers.items():
            assert isinstance(quantizer, FeatureQuantizer)
            scalars = quantizer.quantizer.end_step()
            logged |= {f"Codebook/{part}_{name}": value for name, value in scalars.items()}
        return logged
