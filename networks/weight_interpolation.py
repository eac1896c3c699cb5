"""A network whose weights lie between those of two pictures (Skorokhodov et al. 2021).

The generator of an implicit representation turns a style code into the weights of an MLP of
coordinates, which is the picture. A straight line between two such MLPs passes through other
pictures. Averaging the pixels of two pictures instead shows both at once. INR-GAN, CIPS and CREPS
are such generators: their style codes act through weights alone. EIDGAN's lines attend to the style
codes, and StyleGAN2 and VQ-CGAN are no functions of coordinates.

Shapes: C channels in, O channels out, P positions.
"""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import nn
from torch.nn import functional

from dnnlib.errors import UserError
from networks.generators.cips import Cips
from networks.generators.creps import Creps
from networks.generators.eidgan import Eidgan
from networks.generators.inrgan import FactorisedLinear, Inrgan
from networks.generators.quantized import QuantizedGenerator
from networks.interfaces import Codes, Generator
from networks.layers.modulated import ModulatedLinear
from torch_utils.ops.modulated_linear.reference import LEAKY_SLOPE


class SettledLinear(nn.Module):
    """A modulated layer whose weights no longer depend on the style.

    weight: [1, O, C] and bias: [O] with all gains, as `ModulatedLinear.folded` gives them.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, *, activate: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.activate = weight, bias, activate

    def folded(self, style: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.weight, self.bias

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """x [1, P, C], or [P, C] -> [1, P, O]."""
        y = x @ self.weight.transpose(1, 2).to(x.dtype) + self.bias.to(x.dtype)
        return functional.leaky_relu(y, LEAKY_SLOPE) if self.activate else y


def drawn_by_weights(generator: Generator) -> Inrgan | Cips | Creps:
    """The generator, without a quantiser of the text, if its codes act through weights alone.

    Raises `UserError` for any other generator.
    """
    inner = generator.generator if isinstance(generator, QuantizedGenerator) else generator
    if not isinstance(inner, Inrgan | Cips | Creps):
        reason = "its pictures are no functions of coordinates"
        if isinstance(inner, Eidgan):
            reason = "its lines also depend on the style codes in other ways, such as attention"
        raise UserError(
            f"--lerp-in weights: {inner.config.kind} cannot interpolate weights, because {reason}; "
            "use --lerp-in codes, or a network of the systems inrgan, cips or creps"
        )
    return inner


@torch.no_grad()
def with_weights_between(
    generator: Generator, first: Codes, last: Codes, weight: float
) -> Generator:
    """The generator with the modulated weights at `weight` (0 to 1) between those of two pictures.

    first, last: codes of one picture each. The result draws one picture; pass it the codes between
    `first` and `last`, of which some layers are linear functions. It shares all other parameters
    with `generator`. Raises `UserError` as `drawn_by_weights` does.
    """
    inner = drawn_by_weights(generator)
    shared = chain(inner.parameters(), inner.buffers())
    settled = copy.deepcopy(inner, {id(tensor): tensor for tensor in shared})
    styles = first.tokens[:, 0], last.tokens[:, 0]
    for name, layer in inner.named_modules():
        if isinstance(layer, ModulatedLinear | FactorisedLinear):
            (a, bias), (b, _) = (layer.folded(style) for style in styles)
            activate = isinstance(layer, FactorisedLinear) or layer.activate
            between = SettledLinear(torch.lerp(a, b, weight), bias, activate=activate)
            settled.set_submodule(name, between)
    return settled
