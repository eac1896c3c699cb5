"""EIDGAN (Liu et al., ICASSP 2024): text-conditioned thick bi-line generator with dual modulation.

Rows and columns run through one trunk of per-position layers: cross-attention modulation by the
style codes (eq. 7-8), then style-modulated layers with the spectral modulation of eq. 6 folded into
their weights. Every block emits lines; `networks.generators.biline` composes them into pictures.
Linear layers and activations only, no noise input.

Shapes: N batch, k style codes, d their width, P = (H + W) * D line positions, C channels, K feature
channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from dnnlib.bounds import AtLeastOne, Positive, Widths, at_least, check_bounds
from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators.biline import BilinePixels
from networks.generators.line_tables import LineFunction, Lines, draw_pixels, prepare_lines
from networks.generators.style import GeneratorOptions, Output
from networks.interfaces import Codes, Generator, TextFeatures
from networks.layers.cross_attention import CrossAttentionModulation
from networks.layers.fourier_lines import FourierLines
from networks.layers.linear import EqualLinear, unit_second_moment
from networks.layers.mapping import TokenMapping
from networks.layers.modulated import ModulatedLinear
from torch_utils.precision import at_least_single


@dataclass(frozen=True, kw_only=True)
class EidganConfig(GeneratorOptions):
    """Every choice that the paper leaves open; docs/paper_map.md says which are the paper's.

    sentence_dim, word_dim: widths of the text encoder, 0 = without that input. With both at 0 the
        generator is unconditional.
    channels: trunk width of each block. Each block emits lines, so len(channels) is the number of
        levels.
    thickness: D, lines a side.
    features: K, channels of the composed features.
    decoder_hidden: hidden widths of the per-pixel MLP between levels.
    refinement: widths of the two modulated pairs at the end.
    bandwidth: standard deviation of the Fourier frequencies, in cycles per frame.
    bypass: the sentence joins the style codes. Without it, the sentence enters the mapping network,
        as in CREPS + CLIP.
    styled_lines: an affine function of the style acts on every Fourier feature of every line, as in
        CREPS. Without it the lines that enter are the same for all samples, and pictures of a short
        run share a pattern (docs/experiment_log.md).
    place: the style shifts and scales the coordinates of each sample before the Fourier lines
        (`FourierLines`).
    pooling: how the k style codes become one. mean: their mean times sqrt(k). What all codes share
        (the text) then has k times the power of what differs (the latent). linear: a learned layer
        over all codes, in which both keep their shares.
    summed_lines: a level composes the sum of all lines emitted so far, as the released CREPS does.
        Without it a level composes the lines of one block (eq. 4).
    samples: points a side of which each pixel is the mean. 2 gives drawings smooth edges at all
        sizes; the pixels cost four times as much.
    output: linear as in StyleGAN2; tanh or clip make flat white and black easy (drawings).
    """

    kind: ClassVar[str] = "eidgan"

    sentence_dim: int = 512
    word_dim: int = 512
    num_tokens: AtLeastOne = 8
    token_dim: AtLeastOne = 64
    mapping_layers: Annotated[int, at_least(2)] = 4
    mapping_lr_multiplier: Positive = 0.01
    channels: tuple[int, ...] = (704, 704, 704, 704, 704, 384, 192)
    thickness: AtLeastOne = 8
    features: AtLeastOne = 32
    decoder_hidden: Widths = (64, 128, 64)
    refinement: Widths = (128, 64)
    attention_dim: AtLeastOne = 192
    num_heads: AtLeastOne = 4
    bandwidth: float = 10.0
    spectral: bool = True
    attention: bool = True
    bypass: bool = True
    styled_lines: bool = False
    place: bool = False
    pooling: Literal["mean", "linear"] = "mean"
    summed_lines: bool = False
    samples: AtLeastOne = 1
    output: Output = "linear"

    def __post_init__(self) -> None:
        if not self.channels:
            raise UserError("generator.channels: needs at least one block")
        if any(width < 2 or width % 2 for width in self.channels):
            raise UserError(
                f"generator.channels: every width must be even and positive, got {self.channels}"
            )
        check_bounds(self, "generator.")
        if self.token_dim % self.num_heads:
            raise UserError(
                f"generator.token_dim: {self.token_dim} is not a multiple of num_heads = "
                f"{self.num_heads}"
            )
        if self.attention_dim % self.num_heads:
            raise UserError(
                f"generator.attention_dim: {self.attention_dim} is not a multiple of num_heads = "
                f"{self.num_heads}"
            )

    @property
    def style_dim(self) -> int:
        """Width of what drives the affines: a style code and, with `bypass`, the sentence."""
        return self.token_dim + (self.sentence_dim if self.bypass else 0)

    def build(self) -> Eidgan:
        return Eidgan(self)


class DualModulationBlock(nn.Module):
    """Trunk block: cross-attention modulation, spectrally modulated layer, modulated layer; emits
    line features.
    """

    def __init__(
        self, config: EidganConfig, in_channels: int, out_channels: int, *, first: bool
    ) -> None:
        super().__init__()
        style_dim = config.style_dim
        # The first block sees bare Fourier features, equal for all samples: there is nothing to
        # normalise or attend from.
        self.attention = (
            CrossAttentionModulation(
                in_channels,
                config.token_dim,
                attention_dim=config.attention_dim,
                num_heads=config.num_heads,
            )
            if config.attention and not first
            else None
        )
        layers = [ModulatedLinear(in_channels, out_channels, style_dim, spectral=config.spectral)]
        if not first:
            layers.append(ModulatedLinear(out_channels, out_channels, style_dim))
        self.layers = nn.ModuleList(layers)
        self.to_lines = ModulatedLinear(
            out_channels, config.features, style_dim, demodulate=False, activate=False
        )

    def forward(
        self, x: torch.Tensor, codes: Codes, style: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.attention is not None:
            x = self.attention(x, codes.tokens)
        for layer in self.layers:
            x = layer(x, style)
        return x, self.to_lines(x, style)


class Eidgan(Generator):
    """See the module; `config` is kept as `.config`."""

    takes_patches = True

    def __init__(self, config: EidganConfig) -> None:
        super().__init__(token_shape=(config.num_tokens, config.token_dim))
        self.config = config
        self.mapping_network = TokenMapping(
            config.num_tokens,
            config.token_dim,
            num_layers=config.mapping_layers,
            lr_multiplier=config.mapping_lr_multiplier,
            sentence_dim=0 if config.bypass else config.sentence_dim,
            word_dim=config.word_dim,
            attention_dim=config.token_dim,
            num_heads=config.num_heads,
        )
        self.pool = (
            EqualLinear(
                config.num_tokens * config.token_dim,
                config.token_dim,
            )
            if config.pooling == "linear"
            else None
        )
        widths = (config.channels[0], *config.channels)
        self.lines = FourierLines(
            widths[0],
            config.thickness,
            config.bandwidth,
            style_dim=config.style_dim if config.styled_lines else 0,
            place_dim=config.style_dim if config.place else 0,
        )
        self.blocks = nn.ModuleList(
            DualModulationBlock(config, a, b, first=i == 0)
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.pixels = BilinePixels(
            len(config.channels),
            config.features,
            config.decoder_hidden,
            config.refinement,
            config.style_dim,
        )

    def mapping(self, z: torch.Tensor, text: TextFeatures | None) -> Codes:
        config = self.config
        words, mask, sentence = None, None, z.new_zeros(z.shape[0], 0)
        if config.sentence_dim or config.word_dim:
            conditioning = self.require_text(text)
            if config.word_dim:
                words, mask = conditioning.words, conditioning.mask
            sentence = conditioning.sentence if config.sentence_dim else sentence
        if config.bypass:
            return Codes(self.mapping_network(z, words, mask), unit_second_moment(sentence))
        return Codes(self.mapping_network(z, words, mask, sentence), z.new_zeros(z.shape[0], 0))

    def prepare(self, codes: Codes, view: View) -> Lines:
        pooled = self._pooled(codes.tokens)
        style = torch.cat([at_least_single(x) for x in (pooled, codes.sentence)], dim=1)

        def emit(rows: torch.Tensor, columns: torch.Tensor) -> Iterator[torch.Tensor]:
            x = self.lines.at(rows, columns, style)
            for block in self.blocks:
                x, lines = block(x, codes, style)
                yield lines

        lines = LineFunction(emit, self.lines.cycles, summed=self.config.summed_lines)
        return prepare_lines(lines, view, style, self.pixels.folded(style), self.samples)

    def _pooled(self, tokens: torch.Tensor) -> torch.Tensor:
        """[N, k, d] -> [N, d]"""
        if self.pool is not None:
            return self.pool.single(tokens.flatten(1))
        # Independent latents average out: the root of k gives the pooled code the variance of one.
        return tokens.mean(dim=1) * math.sqrt(tokens.shape[1])

    def render(self, prepared: Lines, rows: slice, columns: slice) -> torch.Tensor:
        return draw_pixels(prepared, self.pixels, rows, columns, self.samples, self.config.output)
