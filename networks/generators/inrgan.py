"""INR-GAN (Skorokhodov et al., CVPR 2021): multi-scale implicit representation with factorised
multiplicative modulation.

Each scale reads coordinate features and the features of its parent cell (nearest upsampling). The
weights of a layer are W * (A B), where the style code gives A and B of rank 10. Scales below the
trained resolution are evaluated at the cells of the trained frame, and the last scale at the
samples of the view. So a pixel depends on its position only, and tiles and windows are exact.

Shapes: N batch, d style width, H x W grid of a scale, P positions, I input and O output channels, C
features, E coordinate features, r rank.
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
from networks.coordinates import View
from networks.generators.style import Output, StyleGenerator, StyleOptions, to_output
from networks.interfaces import Codes
from networks.layers.cell_embedding import CellEmbedding, Cells, Samples
from networks.layers.linear import EqualLinear
from networks.layers.modulated import ModulatedLinear
from networks.layers.scale_widths import scale_widths
from torch_utils.ops.modulated_linear.reference import DEMODULATION_EPS, LEAKY_GAIN, LEAKY_SLOPE

# A warped view prepares the coarse scales only if they have fewer cells than this.
MAX_CELLS = 1 << 17


@dataclass(frozen=True, kw_only=True)
class InrganConfig(StyleOptions):
    """Config of the INR-GAN generator.

    The defaults are the paper's size for 256 x 256: 73 M parameters with the sentences of ViT-B/32.

    resolution: side of the trained frame in cells, a power of two.
    sentence_dim: width of the sentence embedding; 0 = unconditional.
    style_dim: width of z and of the style code.
    mapping_layers: layers of the mapping network.
    channel_base, channel_max: scale s has min(channel_base / s, channel_max) channels.
    rank: r, the rank of the factors A and B.
    start_resolution: side of the smallest grid. Scales below it use this grid.
    extra_from: scales of at least this side have a third layer. The first scale has one layer, the
        others have two.
    embedding: width of the learned vector of a cell. Scales of at least `extra_from` have half of
        it.
    modulation: demod normalises the rows of W * (1 + A B / sqrt(r)); sigmoid is W * sigmoid(A B /
        sqrt(r)), as in the paper.
    output: see `to_output`.
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
    """x [N, P, I] and style [N, d] -> [N, P, O]: a linear layer and a leaky ReLU.

    Each sample has the weights W * m(A B / sqrt(r)). A [N, O, r] and B [N, r, I] are affine
    functions of the style.

    modulation: the function m and the normalisation; see `InrganConfig`.
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
        """The weights of each sample, times the gain of the activation.  # [N, O, I]"""
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
    """The layers of one scale. The first layer also reads the coordinate features.

    The RGB output of the scale is added to the RGB of the parent cell.

    scale: side of the scale in cells; the grid is at least `start_resolution`.
    in_channels: features of the parent cell; 0 for the first scale.
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
        """Sines and cosines of x, y, x + y and x - y, and the vectors of the cells.  # [H, W, E]"""
        y = rows.positions[:, None].expand(-1, len(columns))
        x = columns.positions.expand(len(rows), -1)
        return torch.cat([self._waves(x, y), self.embedding(rows, columns)], dim=2)

    def coordinates_at(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The coordinate features at the points x, y [P].  # [1, P, E]"""
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
        """The features [N, H, W, O] and the RGB [N, H, W, 3] of the scale.

        x: features of the parent cells [N, H, W, C]; None at the first scale.
        rgb: RGB of the parent cells [N, H, W, 3]; None at the first scale.
        style: [N, d].
        coordinates: [H, W, E].
        """
        e = coordinates.expand(len(style), -1, -1, -1)
        y = (e if x is None else torch.cat([x, e.to(x.dtype)], dim=3)).flatten(1, 2)
        for layer in self.layers:
            y = layer(y, style)
        new_rgb = self.to_rgb(y, style).unflatten(1, e.shape[1:3])
        return y.unflatten(1, e.shape[1:3]), new_rgb if rgb is None else rgb + new_rgb


@dataclass(frozen=True)
class InrganState:
    """A prepared view without a warp: everything but the scale of the trained resolution.

    x: features of the coarse cells under the view [N, h, w, C].
    rgb: RGB of these cells [N, h, w, 3].
    above: for each row and for each column of the view, the index of the row or column of coarse
        cells that contains it.
    style: [N, d].
    rows, columns: positions of the rows and of the columns of the view.

    x, rgb and above are None if the network has no coarse scale.
    """

    x: torch.Tensor | None
    rgb: torch.Tensor | None
    above: tuple[torch.Tensor, torch.Tensor] | None
    style: torch.Tensor
    rows: Samples
    columns: Samples


@dataclass(frozen=True)
class WarpedState:
    """A prepared view with a warp: everything but the scale of the trained resolution.

    x: features of the coarse cells that the view reaches [N, h, w, C].
    rgb: RGB of these cells [N, h, w, 3].
    cells: the rows and the columns of these cells.
    style: [N, d].
    view: the view.

    x, rgb and cells are None if `render` evaluates the coarse scales for each pixel, because the
    cells are too many.
    """

    x: torch.Tensor | None
    rgb: torch.Tensor | None
    cells: tuple[Cells, Cells] | None
    style: torch.Tensor
    view: View


class Inrgan(StyleGenerator):
    """The INR-GAN generator; see the module. The config is the attribute `config`."""

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
        """Features and RGB of the last coarse scale, and the rows and columns of its cells.

        cells_of: gives the rows and the columns of the cells of a grid.
        """
        above: tuple[Cells, Cells] | None = None  # rows and columns of the previous scale
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
        # Upper bound of the number of cells of a coarse scale. Preparing them does not pay if the
        # view has fewer pixels, and takes too much memory if the view reaches far.
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
    """The indices of the rows and columns of `above` that contain these rows and columns."""
    return above[0].indices(rows.positions), above[1].indices(columns.positions)


def _upsample(
    x: torch.Tensor | None, rgb: torch.Tensor | None, rows: torch.Tensor, columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest upsampling of features and RGB.

    rows, columns: for each row and column of the result, the index of its parent.
    """
    assert x is not None and rgb is not None  # there is a scale above
    return (
        x.index_select(1, rows).index_select(2, columns),
        rgb.index_select(1, rows).index_select(2, columns),
    )
