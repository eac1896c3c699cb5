"""A generator as one graph for other programs: mapping and synthesis as a function of tensors.

The graph takes latents, text features of a fixed number of words, and the coordinates of rows and
columns. So one graph draws every size and every window. The text encoder is not part of it.

Not every runtime has an FFT. So the spectral modulation u = irfft(g * rfft(x)) over C channels is
exported as the equal circular convolution: h = irfft(g) is a product with a constant matrix, and
W' = W diag(s) circ(h) is a product of matrices. Gains of constant layers go into their weights.

Shapes: N batch, L words, C input and O output channels, F = C // 2 + 1 frequencies.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators.biline import PixelDecoder
from networks.generators.creps import Creps
from networks.generators.eidgan import Eidgan
from networks.interfaces import Generator, TextFeatures
from networks.layers.modulated import ModulatedLinear, SpectralGain
from networks.placed_view import PlacedView
from torch_utils.ops.modulated_linear.reference import DEMODULATION_EPS, LEAKY_GAIN, LEAKY_SLOPE

SYSTEMS: tuple[type[Generator], ...] = (Eidgan, Creps)


class ExportedNetwork(nn.Module):
    """z [N, *latent_shape], sentence [N, d_s], words [N, L, d_w], mask [N, L] bool, rows [H] and
    columns [W] -> pictures [N, 3, H, W] float32, in [-1, 1] up to overshoot.

    rows, columns: float32 coordinates in frame units, y and x (`networks.coordinates`). A network
    with `samples` s reads s of them for each pixel: [H * s] and [W * s]. Text that
    the network does not read is left out: `input_names` lists the arguments. Raises `UserError` for
    a system that cannot be exported. The generator itself is left as it is.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = exportable(generator)
        config = generator.config
        sentence = ["sentence"] if config.sentence_dim else []
        words = ["words", "mask"] if config.word_dim else []
        self.input_names = ["z", *sentence, *words, "rows", "columns"]
        self.eval().requires_grad_(False)

    def inputs(
        self, z: torch.Tensor, text: TextFeatures | None, view: View
    ) -> dict[str, torch.Tensor]:
        """The arguments of `forward` by name, in order, for a view that has no warp."""
        points = view.scaled(self.generator.samples)
        known = {"z": z, "rows": points.rows(), "columns": points.columns()}
        if text is not None:
            known |= {"sentence": text.sentence, "words": text.words, "mask": text.mask}
        return {name: known[name] for name in self.input_names}

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        named = dict(zip(self.input_names, inputs, strict=True))
        z = named["z"]
        nothing = z.new_zeros(z.shape[0], 0)
        words, mask = named.get("words", nothing), named.get("mask", nothing)
        if "words" in named:
            # A word of zeros has the length 0. Its normalisation adds 1e-8 to the length, but
            # optimisers of graphs drop so small a number, and 0 / 0 is NaN. The attention leaves
            # masked words out, so any other number may take the place of their zeros.
            words = words.masked_fill(~mask.unsqueeze(2), 1.0)
        text = TextFeatures(named.get("sentence", nothing), words, mask)
        view = cast(View, PlacedView(named["rows"], named["columns"]))
        codes = self.generator.mapping(z, text if self.generator.reads_text else None)
        prepared = self.generator.prepare(codes, view)
        return self.generator.render(prepared, slice(None), slice(None))


def exportable(generator: Generator) -> Generator:
    """A copy whose layers are made of operators that ONNX has. Raises `UserError` for systems that
    are not in `SYSTEMS`: their graphs hold the size of the picture, or the number of pictures.
    """
    if not isinstance(generator, SYSTEMS):
        names = " and ".join(kind.__name__.lower() for kind in SYSTEMS)
        raise UserError(
            f"networks of kind {generator.config.kind} cannot be exported, because their graph "
            f"would be bound to one size or number of pictures; kinds that can be: {names}"
        )
    replacements: dict[type[nn.Module], Callable[..., nn.Module]] = {
        ModulatedLinear: _ModulatedLinear,
        PixelDecoder: _PixelDecoder,
    }
    generator = copy.deepcopy(generator).requires_grad_(False)
    for parent in list(generator.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in replacements:
                setattr(parent, name, replacements[type(child)](child))
    return generator


class _ModulatedLinear(nn.Module):
    """`ModulatedLinear` for a graph: x [N, P, C] or [P, C], y [N, d_y] -> [N, P, O]."""

    def __init__(self, layer: ModulatedLinear) -> None:
        super().__init__()
        self.weight, self.affine = layer.weight, layer.affine
        self.activate, self.demodulate = layer.activate, layer.demodulate
        self.gain = LEAKY_GAIN if layer.activate else 1.0
        self.bias = nn.Parameter(layer.bias * self.gain)
        channels = layer.weight.shape[1]
        gain = layer.spectral
        self.convolution = None if gain is None else _CircularConvolution(gain, channels)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        weight = self.weight * self.affine.single(y).unsqueeze(1)  # [N, O, C]
        if self.convolution is not None:
            weight = weight @ self.convolution(y)
        if self.demodulate:
            norm = weight.square().sum(dim=2, keepdim=True)
            weight = weight * ((norm + DEMODULATION_EPS).rsqrt() * self.gain)
        else:
            weight = weight * (self.gain / math.sqrt(self.weight.shape[1]))
        out = torch.matmul(x, weight.transpose(1, 2)) + self.bias
        return functional.leaky_relu(out, LEAKY_SLOPE) if self.activate else out


class _CircularConvolution(nn.Module):
    """`SpectralGain` without complex numbers: y [N, d_y] -> circ(h) [N, C, C].

    h = irfft(g) is the response of the modulation, and circ(h)[i, j] = h[(i - j) mod C].
    """

    inverse: torch.Tensor
    shifts: torch.Tensor

    def __init__(self, gain: SpectralGain, channels: int) -> None:
        super().__init__()
        self.affine, self.spectrum = gain.affine, gain.spectrum
        unit = torch.eye(channels // 2 + 1, dtype=torch.float64)
        zero = torch.zeros_like(unit)
        parts = torch.cat([torch.complex(unit, zero), torch.complex(zero, unit)])
        index = torch.arange(channels)
        self.register_buffer("inverse", torch.fft.irfft(parts, n=channels).float())  # [2 F, C]
        self.register_buffer("shifts", ((index[:, None] - index) % channels).flatten())

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        a, b = self.affine.single(y).chunk(2, dim=1)
        c, d = self.spectrum[:, 0], self.spectrum[:, 1]
        g = torch.cat([c * a - d * b, c * b + d * a], dim=1)  # [N, 2 F], real then imaginary
        h = g @ self.inverse
        channels = self.inverse.shape[1]
        return h.index_select(1, self.shifts).unflatten(1, (channels, channels))


class _PixelDecoder(nn.Module):
    """`PixelDecoder` whose gains were multiplied into its weights."""

    def __init__(self, decoder: PixelDecoder) -> None:
        super().__init__()
        weights, biases = decoder.folded()
        self.weights, self.biases = nn.ParameterList(weights), nn.ParameterList(biases)

    def folded(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return list(self.weights), list(self.biases)
