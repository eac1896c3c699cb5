"""The text tower of the embedded encoders as a graph that fits a web page.

MiniLM has 22.7 million weights: 91 MB as float32, 45 MB as float16. Here each row of a weight
matrix, and each embedding, is stored as 8-bit integers with one scale. The arithmetic stays
float32, so only the rounding of the weights changes the features.

Shapes: L tokens with start and end of text, d_w = 384 word width, d_s = 256 sentence width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from networks.exported_parts import Graph
from networks.text_encoders.open_clip_encoder import OpenClipTextEncoder

MAX_ID = 127  # the largest magnitude of an 8-bit weight


class ExportedTextTower(Graph):
    """ids [1, L] int64 -> sentence [1, d_s] and words [1, L, d_w] float32, as `encode_text` of the
    encoder `small` gives them, up to the rounding of the weights.

    encoder: `small` or `small-heldout`; it is left as it is.
    """

    input_names, output_names = ["ids"], ["sentence", "words"]
    axes = {"ids": {1: "length"}}

    def __init__(self, encoder: OpenClipTextEncoder) -> None:
        super().__init__()
        tower = encoder.model.text
        self.transformer, self.head = rounded(tower.transformer), rounded(tower.proj)
        self.eval().requires_grad_(False)

    def example(self) -> dict[str, torch.Tensor]:
        return {"ids": torch.arange(7).unsqueeze(0)}

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (ids,) = inputs
        states = self.transformer(ids)
        return self.head(states[-1].mean(dim=1)), states[-2]


def rounded(module: nn.Module) -> nn.Module:
    """A copy of `module` whose linear layers and embeddings have 8-bit weights."""
    kinds: dict[type[nn.Module], Callable[..., nn.Module]] = {
        nn.Linear: _RoundedLinear,
        nn.Embedding: _RoundedEmbedding,
    }
    root = nn.Sequential(copy.deepcopy(module))
    for parent in list(root.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in kinds:
                setattr(parent, name, kinds[type(child)](child))
    return root[0]


class _Rounded(nn.Module):
    """The weight of a layer [O, C] as integers [O, C] int8 and a scale for each row [O, 1]."""

    integers: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layer: nn.Linear | nn.Embedding) -> None:
        super().__init__()
        weight = layer.weight.detach()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / MAX_ID
        self.register_buffer("scale", scale)
        self.register_buffer("integers", (weight / scale).round().to(torch.int8))


class _RoundedLinear(_Rounded):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.integers.float() * self.scale, self.bias)


class _RoundedEmbedding(_Rounded):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.integers[ids].float() * self.scale[ids]
