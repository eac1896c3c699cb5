"""CIPS (Anokhin et al., CVPR 2021): one style-modulated MLP maps the coordinates of each pixel to
its colour.

The input of the MLP is two vectors, concatenated: the Fourier features sin(B (x, y) + b) with
learned B and b, and a learned vector for each cell of the trained frame, interpolated between the
centres of the cells. Every second layer adds to the RGB output. Pixels share no computation, so
time and memory grow with the number of pixels only.

Shapes: N batch, d style width, P pixels, h x w pixels of a crop, C channels, E width of the vector
of a cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn

from dnnlib.bounds import AtLeastOne, check_bounds
from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators.style import Output, StyleGenerator, StyleOptions, to_output
from networks.interfaces import Codes
from networks.layers.cell_embedding import CellEmbedding, Samples
from networks.layers.modulated import ModulatedLinear


@dataclass(frozen=True, kw_only=True)
class CipsConfig(StyleOptions):
    """Config of the CIPS generator.

    The defaults are the paper's size for 256 x 256: 14 layers of width 512 and 44.3 M parameters,
    of which 33.6 M are the vectors of the cells.

    resolution: side of the trained frame in cells.
    sentence_dim: width of the sentence embedding; 0 = unconditional.
    style_dim: width of z and of the style code.
    mapping_layers: layers of the mapping network.
    channels: width of every layer of the MLP, and number of Fourier features.
    num_layers: number of layers of the MLP; even.
    embedding: width of the vector of a cell.
    bandwidth: standard deviation of the frequencies of the Fourier features at the start, in cycles
        per frame. The default is that of the released code, about half a wave across the frame. The
        frequencies are learned; the vectors of the cells hold the finer detail.
    output: see `to_output`.
    """

    kind: ClassVar[str] = "cips"
    word_dim: ClassVar[int] = 0  # reads no words

    resolution: AtLeastOne = 256
    sentence_dim: int = 0
    style_dim: AtLeastOne = 512
    mapping_layers: AtLeastOne = 4
    channels: AtLeastOne = 512
    num_layers: int = 14
    embedding: AtLeastOne = 512
    bandwidth: float = 0.4
    output: Output = "linear"

    def __post_init__(self) -> None:
        check_bounds(self, "generator.")
        if self.num_layers < 2 or self.num_layers % 2:
            raise UserError(
                f"generator.num_layers: must be even and positive, got {self.num_layers}"
            )

    def build(self) -> Cips:
        return Cips(self)


@dataclass(frozen=True)
class CipsState:
    """A prepared view.

    style: the style codes [N, d].
    rows, columns: positions of the rows and of the columns of the view.
    view: the view. `render` asks it for the coordinates of each pixel if it is warped.
    """

    style: torch.Tensor
    rows: Samples
    columns: Samples
    view: View


class Cips(StyleGenerator):
    """The CIPS generator; see the module. The config is the attribute `config`."""

    def __init__(self, config: CipsConfig) -> None:
        super().__init__(config)
        self.frequencies = nn.Parameter(
            torch.randn(config.channels, 2) * (2 * math.pi * config.bandwidth)
        )  # x, y
        self.phases = nn.Parameter(torch.rand(config.channels) * (2 * math.pi))
        self.embedding = CellEmbedding(config.embedding, config.resolution)
        widths = [config.channels + config.embedding, *[config.channels] * config.num_layers]
        self.layers = nn.ModuleList(
            ModulatedLinear(a, b, config.style_dim) for a, b in pairwise(widths)
        )
        self.to_rgb = nn.ModuleList(
            ModulatedLinear(
                config.channels,
                3,
                config.style_dim,
                demodulate=False,
                activate=False,
                weight_init=0.25,
            )
            for _ in range(config.num_layers // 2)
        )

    def prepare(self, codes: Codes, view: View) -> CipsState:
        grid, device = self.config.resolution, self.phases.device
        rows, columns = (Samples.on(grid, axis, device) for axis in (view.y_axis, view.x_axis))
        return CipsState(codes.tokens[:, 0], rows, columns, view)

    def render(self, prepared: CipsState, rows: slice, columns: slice) -> torch.Tensor:
        style, view = prepared.style, prepared.view
        inputs = (
            self._on_grid(prepared.rows[rows], prepared.columns[columns])
            if view.warp is None
            else self._at(*view.points(rows, columns, style.device))
        )
        x = inputs.flatten(0, 1)
        rgb: Any = 0.0
        for index, layer in enumerate(self.layers):
            x = layer(x, style)
            if index % 2:
                rgb = rgb + self.to_rgb[index // 2](x, style)
        image = rgb.float().transpose(1, 2).unflatten(2, inputs.shape[:2])
        return to_output(image, self.config.output)

    def _on_grid(self, rows: Samples, columns: Samples) -> torch.Tensor:
        """The input of the first layer for each pixel of a crop.  # [h, w, C + E]"""
        along_x = columns.positions[:, None] * self.frequencies[:, 0]
        along_y = rows.positions[:, None] * self.frequencies[:, 1]
        waves = (along_y[:, None] + along_x + self.phases).sin() * math.sqrt(2)  # [h, w, C]
        return torch.cat([waves, self.embedding(rows, columns)], dim=2)

    def _at(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The input of the first layer at the points x, y [h, w].  # [h, w, C + E]"""
        along_x, along_y = (
            x[..., None] * self.frequencies[:, 0],
            y[..., None] * self.frequencies[:, 1],
        )
        waves = (along_y + along_x + self.phases).sin() * math.sqrt(2)
        vectors = self.embedding.at(x.flatten(), y.flatten()).unflatten(0, x.shape)
        return torch.cat([waves, vectors], dim=2)
