"""CIPS (Anokhin et al., CVPR 2021): every pixel by itself, through one style-modulated MLP of its
coordinates.

The input is sin(B (x, y) + b), learned, beside a learned vector for every cell of the trained
frame, interpolated between cell centres; RGB is read off after every second layer and summed.
Nothing is shared between pixels, so cost and memory grow with their number alone.

Shapes: N batch, d style width, P pixels, C channels.
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
from networks.generators.style import GeneratorOptions, Output, StyleGenerator, to_output
from networks.interfaces import Codes
from networks.layers.cell_embedding import CellEmbedding, Samples
from networks.layers.modulated import ModulatedLinear


@dataclass(frozen=True, kw_only=True)
class CipsConfig(GeneratorOptions):
    """Defaults are the paper's 256 x 256 size: 14 layers of width 512, 44.3 M parameters, 33.6 M of
    them vectors of cells.

    resolution: side of the trained frame in cells. sentence_dim: 0 = unconditional. embedding:
    width of a cell's vector. bandwidth: of the Fourier features at the start, cycles per frame
    (standard deviation), as released: half a wave across the frame; they are learned from there,
    and the cells' vectors carry what is finer.
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
    """What `render` needs of a view: the style [N, d], its rows and its columns.

    view: read where it is warped, because each pixel then has coordinates of its own.
    """

    style: torch.Tensor
    rows: Samples
    columns: Samples
    view: View


class Cips(StyleGenerator):
    """See the module; `config` is kept as `.config`."""

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
        """What the first layer reads of the pixels of a crop.  # [h, w, C + E]"""
        along_x = columns.positions[:, None] * self.frequencies[:, 0]
        along_y = rows.positions[:, None] * self.frequencies[:, 1]
        waves = (along_y[:, None] + along_x + self.phases).sin() * math.sqrt(2)  # [h, w, C]
        return torch.cat([waves, self.embedding(rows, columns)], dim=2)

    def _at(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The same at the points (x, y) [h, w]."""
        along_x, along_y = (
            x[..., None] * self.frequencies[:, 0],
            y[..., None] * self.frequencies[:, 1],
        )
        waves = (along_y + along_x + self.phases).sin() * math.sqrt(2)
        vectors = self.embedding.at(x.flatten(), y.flatten()).unflatten(0, x.shape)
        return torch.cat([waves, vectors], dim=2)
