"""INR-GAN (Skorokhodov et al., CVPR 2021): multi-scale implicit representation with factorised
multiplicative modulation.

Every scale reads coordinates and the features of its parent cell (nearest upsampling); a layer's
weights are W * (A B) with A, B of rank 10 made from the style code. Scales below the trained
resolution lie on the cells of the trained frame, the last one on the samples of the view: so a
pixel is a function of its place alone, and tiles and windows are exact.

Shapes: N batch, d style width, H x W grid of a scale, C features, E coordinate features, r rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, cast

import torch
from torch import nn
from torch.nn import functional

from dnnlib.bounds import AtLeastOne, at_least, check_bounds
from dnnlib.errors import UserError
from networks.coordinates import Axis, View
from networks.generators.style import GeneratorOptions, Output, StyleGenerator, to_output
from networks.interfaces import Codes
from networks.layers.cell_embedding import CellEmbedding, Samples
from networks.layers.linear import EqualLinear
from networks.layers.modulated import ModulatedLinear
from networks.layers.scale_widths import scale_widths
from torch_utils.ops.modulated_linear.reference import DEMODULATION_EPS, LEAKY_GAIN, LEAKY_SLOPE

MAX_CELLS = 1 << 17  # of a coarse scale that a warped view prepares


@dataclass(frozen=True, kw_only=True)
class InrganConfig(GeneratorOptions):
    """Defaults are the paper's 256 x 256 size, 73 M parameters with ViT-B/32 sentences.

    resolution: side of the trained frame in cells, a power of two. start_resolution: the smallest
    grid; scales below lie on it as well. extra_from: scales from here on have a third layer (the
    very first scale has one). embedding: width of the learned vector of a cell, half of it from
    extra_from on. modulation: demod normalises the rows of W * (1 + A B / sqrt(rank)), sigmoid is
    the paper's W * sigmoid(A B).
    """

    kind: ClassVar[str] = "inrgan"
    word_dim: ClassVar[int] = 0  # reads no words

    resolution: int = 256
    sentence_dim: int = 0
    style_dim: AtLeastOne = 512
    mapping_layers: AtLeastOne = 2
    channel_base: int = 32768
    channel_max: int = 512
    rank: AtLeastOne = 10
    start_resolution: int = 32
    extra_from: int = 128
    embedding: Annotated[int, at_least(2)] = 128
    modulation: Literal["demod", "sigmoid"] = "demod"
    output: Output = "linear"

    def __post_init__(self) -> None:
        if self.start_resolution not in scale_widths(
            "generator", self.resolution, self.channel_base, self.channel_max
        ):
            raise UserError(
                f"generator.start_resolution: must be a power of two from 4 to {self.resolution}, "
                f"got {self.start_resolution}"
            )
        check_bounds(self, "generator.")

    def build(self) -> Inrgan:
        return Inrgan(self)


class FactorisedLinear(nn.Module):
    """x [N, P, I], style [N, d] -> [N, P, O], leaky ReLU; per-sample weights W * m(A B / sqrt(r)).

    A [N, O, r] and B [N, r, I] are affine in the style.
    """

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, rank: int, modulation: str
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = EqualLinear(style_dim, rank * (in_channels + out_channels))
        self.rank, self.modulation = rank, modulation

    def weights(self, style: torch.Tensor) -> torch.Tensor:
        """Per-sample weights with the activation's gain inside.  # [N, O, I]"""
        out_channels, in_channels = self.weight.shape
        left, right = self.affine(style).split(
            [self.rank * out_channels, self.rank * in_channels], dim=1
        )
        product = torch.bmm(
            left.unflatten(1, (out_channels, self.rank)),
            right.unflatten(1, (self.rank, in_channels)),
        ).float()
        product = product / math.sqrt(self.rank)
        if self.modulation == "sigmoid":
            return (
                self.weight * product.sigmoid() * (2 * LEAKY_GAIN / math.sqrt(in_channels))
            )  # 2: sigmoid(0) is a half
        modulated = self.weight * (1 + product)
        return modulated * (
            (modulated.square().sum(dim=2, keepdim=True) + DEMODULATION_EPS).rsqrt() * LEAKY_GAIN
        )

    def folded(self, style: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(weight [N, O, I], bias [O]) with all gains: output = lrelu(x @ weight.T + bias)."""
        return self.weights(style), self.bias * LEAKY_GAIN

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        weight, bias = (part.to(x.dtype) for part in self.folded(style))
        y = torch.baddbmm(bias, x, weight.transpose(1, 2))
        return functional.leaky_relu(y, LEAKY_SLOPE, inplace=True)


class ScaleBlock(nn.Module):
    """Layers of one scale on its own grid; the first also reads the coordinates. RGB adds to the
    parent cell's.
    """

    octaves: torch.Tensor

    def __init__(
        self, config: InrganConfig, scale: int, in_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        self.grid = max(scale, config.start_resolution)
        large = scale >= config.extra_from
        self.embedding = CellEmbedding(
            config.embedding // 2 if large else config.embedding, self.grid
        )
        # Octaves from half a cycle a frame up to half of the grid's Nyquist frequency, along both
        # axes and both diagonals.
        octaves = 2.0 ** torch.arange(self.grid.bit_length() - 1)
        self.register_buffer("octaves", octaves, persistent=False)
        num_coordinates = self.embedding.weight.shape[2] + 8 * len(octaves)
        depth = 3 if large else 2 if in_channels else 1
        widths = [in_channels + num_coordinates, *[out_channels] * depth]
        self.layers = nn.ModuleList(
            FactorisedLinear(a, b, config.style_dim, config.rank, config.modulation)
            for a, b in pairwise(widths)
        )
        self.to_rgb = ModulatedLinear(
            out_channels, 3, config.style_dim, demodulate=False, activate=False, weight_init=0.25
        )

    def coordinates(self, rows: Samples, columns: Samples) -> torch.Tensor:
        """[H, W, E]: sines and cosines of x, y, x + y, x - y, and the cells' vectors."""
        y = rows.positions[:, None].expand(-1, len(columns))
        x = columns.positions.expand(len(rows), -1)
        return torch.cat([self._waves(x, y), self.embedding(rows, columns)], dim=2)

    def coordinates_at(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The same at scattered points [P].  # [1, P, E]"""
        return torch.cat([self._waves(x, y), self.embedding.at(x, y)], dim=1)[None]

    def _waves(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        phases = torch.stack([x, y, x + y, x - y], dim=-1)[..., None] * (self.octaves * math.pi)
        return torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2) * math.sqrt(2)

    def forward(
        self,
        x: torch.Tensor | None,
        rgb: torch.Tensor | None,
        style: torch.Tensor,
        coordinates: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x [N, H, W, C] and rgb [N, H, W, 3] of the parent cells, or None at the first scale;
        coordinates [H, W, E].
        """
        e = coordinates.expand(len(style), -1, -1, -1)
        y = (e if x is None else torch.cat([x, e.to(x.dtype)], dim=3)).flatten(1, 2)
        for layer in self.layers:
            y = layer(y, style)
        own = self.to_rgb(y, style).unflatten(1, e.shape[1:3])
        return y.unflatten(1, e.shape[1:3]), own if rgb is None else rgb + own


@dataclass(frozen=True)
class Cells:
    """The cells of a coarse scale that a view needs along one axis, in order.

    numbers: int64 [n]. span: the same numbers where they follow one another; None where the samples
    of the view lie further apart than the cells, and each sample has a cell of its own.
    """

    grid: int
    numbers: torch.Tensor
    span: range | None

    @staticmethod
    def under(axis: Axis, samples: torch.Tensor, grid: int) -> Cells:
        span = axis.cells_under(grid)
        if span is None:
            return Cells(grid, (samples * grid).floor().long(), None)
        return Cells.of(grid, span, samples.device)

    @staticmethod
    def of(grid: int, span: range, device: torch.device) -> Cells:
        return Cells(grid, torch.arange(span.start, span.stop, device=device), span)

    def centres(self) -> Samples:
        cells = self.numbers if self.span is None else self.span
        return Samples((self.numbers + 0.5) / self.grid, cells)

    def indices(self, positions: torch.Tensor) -> torch.Tensor:
        """Where the cells that hold these positions stand in `numbers`; the positions are all
        samples of the view, or all cells of a finer scale.
        """
        if self.span is None:
            return torch.arange(len(positions), device=positions.device)
        numbers = (positions * self.grid).floor().long()
        return (numbers - self.span.start).clamp(0, len(self.span) - 1)


@dataclass(frozen=True)
class InrganState:
    """What is known before the last scale.

    x [N, h, w, C] and rgb [N, h, w, 3] of the coarse cells under the view; above: for each row and
    column of the view, which of theirs holds it. All three None: every scale is the last.
    style [N, d]; rows and columns of the view.
    """

    x: torch.Tensor | None
    rgb: torch.Tensor | None
    above: tuple[torch.Tensor, torch.Tensor] | None
    style: torch.Tensor
    rows: Samples
    columns: Samples


@dataclass(frozen=True)
class WarpedState:
    """What is known of a warped view before its last scale.

    x [N, h, w, C] and rgb [N, h, w, 3] of the coarse cells that the view reaches, their rows and
    columns in `cells`. All three None: every pixel evaluates the coarse scales at its cells.
    style [N, d].
    """

    x: torch.Tensor | None
    rgb: torch.Tensor | None
    cells: tuple[Cells, Cells] | None
    style: torch.Tensor
    view: View


class Inrgan(StyleGenerator):
    """See the module; `config` is kept as `.config`."""

    def __init__(self, config: InrganConfig) -> None:
        super().__init__(config)
        widths = scale_widths(
            "generator", config.resolution, config.channel_base, config.channel_max
        )
        inputs = [0, *widths.values()]
        blocks = [
            ScaleBlock(config, scale, before, width)
            for before, (scale, width) in zip(inputs, widths.items(), strict=False)
        ]
        self.coarse = nn.ModuleList(block for block in blocks if block.grid < config.resolution)
        self.fine = nn.ModuleList(block for block in blocks if block.grid == config.resolution)

    def prepare(self, codes: Codes, view: View) -> InrganState | WarpedState:
        style, grid = codes.tokens[:, 0], self.config.resolution
        if view.warp is not None:
            return self._prepare_warped(style, view)
        rows = Samples.on(grid, view.y_axis, style.device)
        columns = Samples.on(grid, view.x_axis, style.device)
        x, rgb, above = self._coarse_cells(
            style,
            lambda grid: (
                Cells.under(view.y_axis, rows.positions, grid),
                Cells.under(view.x_axis, columns.positions, grid),
            ),
        )
        indices = None if above is None else _indices(above, rows, columns)
        return InrganState(x, rgb, indices, style, rows, columns)

    def _coarse_cells(
        self, style: torch.Tensor, cells_of: Callable[[int], tuple[Cells, Cells]]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, tuple[Cells, Cells] | None]:
        """Features and RGB of the last coarse scale, and its rows and columns of cells.

        cells_of: a grid -> the rows and columns of its cells.
        """
        above: tuple[Cells, Cells] | None = None  # the rows and columns of the scale before
        x: torch.Tensor | None = None
        rgb: torch.Tensor | None = None
        for block in cast("Iterable[ScaleBlock]", self.coarse):
            if above is None or above[0].grid != block.grid:
                cells = cells_of(block.grid)
                if above is not None:
                    rows_below, columns_below = (line.centres() for line in cells)
                    x, rgb = _upsample(x, rgb, *_indices(above, rows_below, columns_below))
                above = cells
            centres = (line.centres() for line in above)
            x, rgb = block(x, rgb, style, block.coordinates(*centres))
        return x, rgb, above

    def _prepare_warped(self, style: torch.Tensor, view: View) -> WarpedState:
        x0, y0, x1, y1 = view.reach()
        # Of the coarse scales, at most; a view may have fewer pixels, or reach very far.
        num_cells = ((x1 - x0) * (y1 - y0)) * (self.config.resolution / 2) ** 2
        if not self.coarse or not num_cells < min(MAX_CELLS, view.height * view.width):
            return WarpedState(None, None, None, style, view)

        def cells_of(grid: int) -> tuple[Cells, Cells]:
            spans = (
                range(math.floor(low * grid), math.floor(high * grid) + 1)
                for low, high in ((y0, y1), (x0, x1))
            )
            rows, columns = (Cells.of(grid, span, style.device) for span in spans)
            return rows, columns

        return WarpedState(*self._coarse_cells(style, cells_of), style, view)

    def render(
        self, prepared: InrganState | WarpedState, rows: slice, columns: slice
    ) -> torch.Tensor:
        if isinstance(prepared, WarpedState):
            return self._render_warped(prepared, rows, columns)
        x, rgb = prepared.x, prepared.rgb
        if prepared.above is not None:
            x, rgb = _upsample(x, rgb, prepared.above[0][rows], prepared.above[1][columns])
        for block in cast("Iterable[ScaleBlock]", self.fine):
            coordinates = block.coordinates(prepared.rows[rows], prepared.columns[columns])
            x, rgb = block(x, rgb, prepared.style, coordinates)
        assert rgb is not None  # the first scale made it
        image = rgb.float().permute(0, 3, 1, 2)
        return to_output(image, self.config.output)

    def _render_warped(self, prepared: WarpedState, rows: slice, columns: slice) -> torch.Tensor:
        places = prepared.view.points(rows, columns, prepared.style.device)
        at_x, at_y = (place.flatten() for place in places)
        x, rgb = prepared.x, prepared.rgb
        if prepared.cells is not None:
            assert x is not None and rgb is not None
            index = prepared.cells[0].indices(at_y) * x.shape[2] + prepared.cells[1].indices(at_x)
            x, rgb = (cells.flatten(1, 2).index_select(1, index)[:, None] for cells in (x, rgb))
        else:
            for block in cast("Iterable[ScaleBlock]", self.coarse):
                cell_x, cell_y = (
                    ((u * block.grid).floor() + 0.5) / block.grid for u in (at_x, at_y)
                )
                x, rgb = block(x, rgb, prepared.style, block.coordinates_at(cell_x, cell_y))
        for block in cast("Iterable[ScaleBlock]", self.fine):
            x, rgb = block(x, rgb, prepared.style, block.coordinates_at(at_x, at_y))
        assert rgb is not None  # the first scale made it
        image = rgb[:, 0].float().transpose(1, 2).unflatten(2, places[0].shape)
        return to_output(image, self.config.output)


def _indices(
    above: tuple[Cells, Cells], rows: Samples, columns: Samples
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of the rows and columns above hold these."""
    return above[0].indices(rows.positions), above[1].indices(columns.positions)


def _upsample(
    x: torch.Tensor | None, rgb: torch.Tensor | None, rows: torch.Tensor, columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest upsampling: features and RGB of the cells at these rows and columns."""
    assert x is not None and rgb is not None  # there is a scale above
    return (
        x.index_select(1, rows).index_select(2, columns),
        rgb.index_select(1, rows).index_select(2, columns),
    )
