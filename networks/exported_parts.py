"""A generator as two graphs, for a program that draws many windows of one picture.

`ExportedCodes` reads latents and text once for each picture. `ExportedSynthesis` draws a window of
it. A page in a browser moves between pictures by interpolating the codes between the two graphs.

Shapes: L words, k style codes, d their width, d_s sentence width, d_w word width, H x W pixels.
"""

from __future__ import annotations

import abc
from typing import cast

import torch
from torch import nn

from networks.coordinates import View
from networks.exported import exportable
from networks.interfaces import Codes, Generator, TextFeatures
from networks.placed_view import PlacedView
from networks.sampling import center_latents, codes_around


class Graph(nn.Module, abc.ABC):
    """A function of named tensors that is exported as one file.

    input_names, output_names: of the arguments and results of `forward`, in order.
    axes: the axes whose length is free, by input: {name of the input: {axis: name of the length}}.
    """

    input_names: list[str]
    output_names: list[str]
    axes: dict[str, dict[int, str]]

    @abc.abstractmethod
    def example(self) -> dict[str, torch.Tensor]:
        """Inputs to trace the graph with, by name, in the order of `input_names`."""


class ExportedCodes(Graph):
    """One latent and one text -> the codes of a picture, as `networks.sampling` draws them.

    Inputs: z [1, *latent_shape]; sentence [1, d_s] and words [1, L, d_w], where the network reads
    them; noise [1, d_s], a standard normal row, and noise_length [1], its length relative to the
    sentence; psi [1], the truncation towards the mean of 64 fixed latents of the same text.
    Outputs: tokens [1, k, d] and bypass [1, d_s], the sentence of `Codes`; no bypass where it is
    empty. Raises `UserError` for a system that cannot be exported.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = exportable(generator)
        config = generator.config
        sentence = ["sentence", "noise", "noise_length"] if config.sentence_dim else []
        words = ["words"] if config.word_dim else []
        self.input_names = ["z", *sentence, *words, "psi"]
        self.axes = {"words": {1: "length"}} if words else {}
        self.register_buffer("center", center_latents(generator.latent_shape))
        self.eval().requires_grad_(False)
        with torch.no_grad():
            results = self(*self.example().values())
        self.output_names = ["tokens", "bypass"][: len(results)]

    center: torch.Tensor

    def example(self) -> dict[str, torch.Tensor]:
        config = self.generator.config
        known = {
            "z": torch.ones(1, *self.generator.latent_shape),
            "sentence": torch.ones(1, config.sentence_dim),
            "noise": torch.ones(1, config.sentence_dim),
            "noise_length": torch.full((1,), 0.5),
            "words": torch.ones(1, 5, config.word_dim),
            "psi": torch.full((1,), 0.5),
        }
        return {name: known[name] for name in self.input_names}

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        named = dict(zip(self.input_names, inputs, strict=True))
        z, text = named["z"], None
        if self.generator.reads_text:
            nothing = z.new_zeros(1, 0)
            words = named.get("words", z.new_zeros(1, 1, 0))
            mask = torch.ones(words.shape[:2], dtype=torch.bool)
            text = TextFeatures(named.get("sentence", nothing), words, mask)
            if "noise" in named:
                text = text.perturbed(named["noise"], cast(float, named["noise_length"]))
        codes = self.generator.mapping(z, text)
        codes = codes_around(self.generator, codes, text, self.center, cast(float, named["psi"]))
        return (codes.tokens, codes.sentence) if codes.sentence.shape[1] else (codes.tokens,)


class ExportedSynthesis(Graph):
    """Codes of one picture and a window -> its pixels [1, 3, H, W], in [-1, 1] up to overshoot.

    Inputs: tokens and, where `ExportedCodes` returns it, bypass; rows and columns, float32
    coordinates in frame units, y and x, as in `ExportedNetwork`.
    """

    def __init__(self, codes: ExportedCodes) -> None:
        super().__init__()
        self.generator = codes.generator
        with torch.no_grad():
            results = codes(*codes.example().values())
        self._codes = dict(zip(codes.output_names, results, strict=True))
        self.input_names = [*codes.output_names, "rows", "columns"]
        self.output_names = ["image"]
        self.axes = {"rows": {0: "height"}, "columns": {0: "width"}}
        self.eval().requires_grad_(False)

    def example(self) -> dict[str, torch.Tensor]:
        view = View(height=6, width=5).scaled(self.generator.samples)
        return {**self._codes, "rows": view.rows(), "columns": view.columns()}

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        named = dict(zip(self.input_names, inputs, strict=True))
        tokens = named["tokens"]
        codes = Codes(tokens, named.get("bypass", tokens.new_zeros(1, 0)))
        view = cast(View, PlacedView(named["rows"], named["columns"]))
        return self.generator.render(self.generator.prepare(codes, view), slice(None), slice(None))
