"""VQ-CGAN (Pavani et al., "Textual Vision Using Quantized Latent Spaces").

The sentence attends to the words with one query for each slot. The results are quantised to codes.
A DCGAN generator (Radford et al. 2016: transposed convolutions, batch norm, ReLU, tanh) draws the
picture from z and the codes. The discriminator reads the codes in place of the sentence embedding.
The generator draws its trained size only.

Shapes: N batch, L words, S slots, c code width, d latent width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn

from dnnlib.bounds import AtLeastOne, check_bounds
from networks.generators.native import NativeGenerator
from networks.generators.style import GeneratorOptions
from networks.interfaces import Codes, TextFeatures
from networks.layers.dcgan import dcgan_init
from networks.layers.linear import unit_second_moment
from networks.layers.scale_widths import scale_widths
from networks.layers.vector_quantizer import Quantized, VectorQuantizer, VectorQuantizerConfig
from torch_utils.distributed import broadcast_from_main


@dataclass(frozen=True, kw_only=True)
class VqcganConfig(GeneratorOptions):
    """Config of VQ-CGAN.

    resolution: side of the pictures, a power of two.
    sentence_dim, word_dim: widths of the text features; 0 = without that input. The generator is
        unconditional if both are 0.
    latent_dim: width of z.
    channel_base, channel_max: scale s has min(channel_base / s, channel_max) channels.
    quantizer: config of the code book.
    """

    kind: ClassVar[str] = "vqcgan"
    any_view: ClassVar[bool] = False

    resolution: int = 256
    sentence_dim: int = 512
    word_dim: int = 512
    latent_dim: AtLeastOne = 100
    channel_base: int = 8192
    channel_max: int = 1024
    quantizer: VectorQuantizerConfig = field(default_factory=VectorQuantizerConfig)

    def __post_init__(self) -> None:
        scale_widths("generator", self.resolution, self.channel_base, self.channel_max)
        check_bounds(self, "generator.")

    @property
    def codes_dim(self) -> int:
        """Width of the flattened codes of a text, 0 for an unconditional generator."""
        reads_text = self.sentence_dim or self.word_dim
        return self.quantizer.slots * self.quantizer.code_dim if reads_text else 0

    def condition_dim(self, sentence_dim: int) -> int:
        """Width of the codes, which the discriminator reads in place of the sentence embedding."""
        return self.codes_dim

    def build(self) -> Vqcgan:
        return Vqcgan(self)


class WordAttention(nn.Module):
    """Sentence [N, d_s] and words [N, L, d_w] with mask -> S vectors [N, S, c].

    The result is the sum of the queries and the attended values. Queries are a linear function of
    the sentence; keys and values are linear functions of the words. Without a sentence the queries
    are learned constants. Without words the result is the queries.
    """

    def __init__(self, config: VqcganConfig) -> None:
        super().__init__()
        self.slots, width = config.quantizer.slots, config.quantizer.code_dim
        self.query = (
            nn.Linear(config.sentence_dim, self.slots * width) if config.sentence_dim else None
        )
        self.learned = (
            nn.Parameter(torch.randn(self.slots, width)) if not config.sentence_dim else None
        )
        self.key = nn.Linear(config.word_dim, width) if config.word_dim else None
        self.value = nn.Linear(config.word_dim, width) if config.word_dim else None

    def forward(self, text: TextFeatures) -> torch.Tensor:
        query = self._queries(text)
        if self.key is None or self.value is None:
            return query
        words = unit_second_moment(text.words)
        scores = (query @ self.key(words).transpose(1, 2)).float()  # [N, S, L]
        scores = scores / math.sqrt(query.shape[2])
        weights = scores.masked_fill(~text.mask.unsqueeze(1), -torch.inf).softmax(dim=2)
        return query + weights.to(query.dtype) @ self.value(words)

    def _queries(self, text: TextFeatures) -> torch.Tensor:
        if self.query is not None:
            return self.query(unit_second_moment(text.sentence)).unflatten(1, (self.slots, -1))
        assert self.learned is not None
        return self.learned.expand(len(text), -1, -1)


class Vqcgan(NativeGenerator):
    """z [N, 1, d] and text -> pictures [N, 3, R, R] in [-1, 1], with R = `config.resolution`."""

    def __init__(self, config: VqcganConfig) -> None:
        super().__init__((1, config.latent_dim))
        self.config = config
        self.attention = WordAttention(config) if config.codes_dim else None
        self.quantizer = VectorQuantizer(config.quantizer) if config.codes_dim else None
        widths_by_scale = scale_widths(
            "generator", config.resolution, config.channel_base, config.channel_max
        )
        widths = list(widths_by_scale.values())[:-1]  # the last layer gives RGB
        layers: list[nn.Module] = []
        inputs = config.latent_dim + config.codes_dim
        for index, (before, width) in enumerate(pairwise([inputs, *widths])):
            stride, padding = (2, 1) if index else (1, 0)
            layers += [
                nn.ConvTranspose2d(before, width, 4, stride, padding, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1))
        self.apply(dcgan_init)

    def text_codes(self, text: TextFeatures | None) -> Quantized:
        """N texts -> `Quantized` with codes [N, S, c]."""
        assert self.quantizer is not None and self.attention is not None
        return self.quantizer(self.attention(self.require_text(text)))

    def mapping(self, z: torch.Tensor, text: TextFeatures | None) -> Codes:
        if self.quantizer is None:
            return Codes(z, z.new_zeros(len(z), 0))
        quantized = self.text_codes(text)
        return Codes(z, quantized.codes.flatten(1), quantized.commitment)

    def paint(self, codes: Codes) -> torch.Tensor:
        x = torch.cat([codes.tokens.flatten(1), codes.sentence.to(codes.tokens.dtype)], dim=1)
        return self.layers(x[:, :, None, None]).float().tanh()

    @torch.no_grad()
    def condition(self, text: TextFeatures | None) -> TextFeatures | None:
        if self.quantizer is None:
            return text
        return replace(self.require_text(text), sentence=self.text_codes(text).codes.flatten(1))

    def end_step(self) -> dict[str, torch.Tensor]:
        # All ranks take the batch norm statistics of rank 0, as under DDP, so that the EMA
        # generators of all ranks draw the same pictures.
        norms = [layer for layer in self.layers if isinstance(layer, nn.BatchNorm2d)]
        broadcast_from_main(buffer for norm in norms for buffer in norm.buffers())
        if self.quantizer is None:
            return {}
        return {f"Codebook/{name}": value for name, value in self.quantizer.end_step().items()}
