"""CREPS (Nguyen et al., CVPR 2023): thick bi-line generator. With text it is CREPS + CLIP, the
baseline of the EIDGAN paper.

The same style code modulates the Fourier features of rows and columns, the layers of the trunk and
the lines that each block emits. `networks.generators.biline` composes the lines into pictures. If
`sentence_dim` is not 0, the mapping network reads the sentence embedding. EIDGAN without its two
modulations equals this network (a test). There is no noise input.

Shapes: N batch, d style width, P = (H + W) * D line positions, D thickness, C channels, K feature
channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn

from dnnlib.bounds import AtLeastOne, Widths, check_bounds
from dnnlib.errors import UserError
from networks.coordinates import Convention, View
from networks.generators.biline import BilinePixels
from networks.generators.line_tables import LineFunction, Lines, draw_pixels, prepare_lines
from networks.generators.style import Output, StyleGenerator, StyleOptions
from networks.interfaces import Codes
from networks.layers.fourier_lines import FourierLines
from networks.layers.modulated import ModulatedLinear
from torch_utils.precision import at_least_single


@dataclass(frozen=True, kw_only=True)
class CrepsConfig(StyleOptions):
    """Config of the CREPS generator.

    The defaults are the released network for 256 x 256: 30.5 M parameters, or 13.1 M with
    style_dim = 64.

    sentence_dim: width of the sentence embedding; 0 = unconditional.
    style_dim: width of z and of the style code.
    mapping_layers: layers of the mapping network.
    channels, thickness, features, decoder_hidden, refinement, bandwidth, place, summed_lines,
        samples: see `EidganConfig`.
    convention: where the samples of a view lie (`View`). CREPS was trained with endpoints, which
        puts the outer samples on the border of the view; the rest of this project uses centers.
    output: see `to_output`.
    """

    kind: ClassVar[str] = "creps"
    word_dim: ClassVar[int] = 0  # reads no words

    sentence_dim: int = 0
    style_dim: AtLeastOne = 512
    mapping_layers: AtLeastOne = 8
    channels: tuple[int, ...] = (1024, 1024, 1024, 1024, 1024, 512, 256)
    thickness: AtLeastOne = 8
    features: AtLeastOne = 32
    decoder_hidden: Widths = (64, 128, 64)
    refinement: Widths = (128, 64)
    bandwidth: float = 10.0
    place: bool = False
    summed_lines: bool = True
    convention: Convention = "centers"
    samples: AtLeastOne = 1
    output: Output = "linear"

    def __post_init__(self) -> None:
        if not self.channels or any(width < 2 or width % 2 for width in self.channels):
            raise UserError(
                "generator.channels: needs at least one width, all even and positive, got "
                f"{self.channels}"
            )
        check_bounds(self, "generator.")
        if self.samples > 1 and self.convention == "endpoints":
            raise UserError(
                "generator.samples: a pixel has no area with generator.convention=endpoints; set "
                "it to centers, or samples to 1"
            )

    def build(self) -> Creps:
        return Creps(self)


class StyledBlock(nn.Module):
    """A block of the trunk: modulated layers, then a linear layer that emits the lines.

    x [N, P, C] and style [N, d] -> (x [N, P, O], lines [N, P, K]) with O output channels.

    first: the first block has one modulated layer, every other block has two.
    """

    def __init__(
        self, in_channels: int, out_channels: int, features: int, style_dim: int, *, first: bool
    ) -> None:
        super().__init__()
        widths = [in_channels, out_channels] if first else [in_channels, out_channels, out_channels]
        self.layers = nn.ModuleList(ModulatedLinear(a, b, style_dim) for a, b in pairwise(widths))
        self.to_lines = ModulatedLinear(
            out_channels, features, style_dim, demodulate=False, activate=False
        )

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for layer in self.layers:
            x = layer(x, style)
        return x, self.to_lines(x, style)


class Creps(StyleGenerator):
    """The CREPS generator; see the module. The config is the attribute `config`."""

    takes_patches = True

    def __init__(self, config: CrepsConfig) -> None:
        super().__init__(config)
        widths = (config.channels[0], *config.channels)
        self.lines = FourierLines(
            widths[0],
            config.thickness,
            config.bandwidth,
            style_dim=config.style_dim,
            place_dim=config.style_dim if config.place else 0,
        )
        self.blocks = nn.ModuleList(
            StyledBlock(a, b, config.features, config.style_dim, first=i == 0)
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.pixels = BilinePixels(
            len(config.channels),
            config.features,
            config.decoder_hidden,
            config.refinement,
            config.style_dim,
        )

    def prepare(self, codes: Codes, view: View) -> Lines:
        if self.config.convention == "endpoints":
            view = replace(view, convention="endpoints")
        style = at_least_single(codes.tokens[:, 0])

        def emit(rows: torch.Tensor, columns: torch.Tensor) -> Iterator[torch.Tensor]:
            x = self.lines.at(rows, columns, style)
            for block in self.blocks:
                x, lines = block(x, style)
                yield lines

        lines = LineFunction(emit, self.lines.cycles, summed=self.config.summed_lines)
        return prepare_lines(lines, view, style, self.pixels.folded(style), self.samples)

    def render(self, prepared: Lines, rows: slice, columns: slice) -> torch.Tensor:
        return draw_pixels(prepared, self.pixels, rows, columns, self.samples, self.config.output)
