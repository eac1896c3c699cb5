"""Pictures between two others, and codes made of those of two seeds.

Between two pictures one can interpolate the inputs of the mapping network, the codes, or the
weights of each picture's network (`networks.weight_interpolation`).

Shapes: N pictures, k style codes, d their width, L words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.interfaces import Codes, Generator, TextEncoder, TextFeatures, codes_between
from networks.moving_pictures import slerp
from networks.sampling import (
    ImageStream,
    Sample,
    TruncationCenter,
    codes_of,
    draw_inputs,
    render_tiled,
)
from networks.weight_interpolation import with_weights_between

Space = Literal["inputs", "codes", "weights"]
End = tuple[str, int]  # prompt and seed
Drawing = tuple[Generator, Codes]  # what draws a picture, and of which codes, N = 1


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Codes of prompts and seeds, N = 1; the fields are the arguments of `iterate_images`."""

    generator: Generator
    encoder: TextEncoder | None
    truncation: float = 1.0
    center: TruncationCenter = "prompt"
    text_noise: float | None = None
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        # All pictures between two ends share the ends, so the last few of them are kept.
        for name in ("inputs", "codes"):
            object.__setattr__(self, name, functools.lru_cache(4)(getattr(self, name)))

    def inputs(self, end: End) -> tuple[torch.Tensor, TextFeatures | None]:
        """The latent and the text, which the mapping network reads."""
        prompt, seed = end
        return draw_inputs(
            self.generator,
            self.encoder,
            [prompt],
            [seed],
            self.truncation,
            self.text_noise,
            self.device,
        )

    def codes(self, end: End) -> Codes:
        return self.codes_of(*self.inputs(end))

    @torch.no_grad()
    def codes_of(self, z: torch.Tensor, text: TextFeatures | None) -> Codes:
        return codes_of(self.generator, z, text, self.truncation, self.center)

    @torch.no_grad()
    def between(self, first: End, last: End, weight: float, space: Space) -> Drawing:
        """The picture at `weight` (0 to 1) between two others.

        inputs: latents on a great circle (`slerp`), texts on a straight line (`text_between`).
        codes: style codes and bypassing sentences on a straight line. weights: see the module.
        Raises `UserError` for weights of a generator whose pictures have none.
        """
        if space == "inputs":
            (z, text), (other_z, other_text) = self.inputs(first), self.inputs(last)
            if text is not None and other_text is not None:
                text = text_between(text, other_text, weight)
            return self.generator, self.codes_of(slerp(z, other_z, weight), text)
        a, b = self.codes(first), self.codes(last)
        middle = codes_between(a, b, weight)
        if space == "codes":
            return self.generator, middle
        return with_weights_between(self.generator, a, b, weight), middle


def text_between(first: TextFeatures, last: TextFeatures, weight: float) -> TextFeatures:
    """The features at `weight` (0 to 1) on the straight line between two texts, N = 1.

    The words of each text are repeated, every word equally often, until both have equally many.
    Attention is a mean over words, so it does not see the repetition.
    """
    words = [text.words[:, text.mask[0]] for text in (first, last)]
    length = math.lcm(*(one.shape[1] for one in words))
    a, b = (one.repeat_interleave(length // one.shape[1], dim=1) for one in words)
    return TextFeatures(
        torch.lerp(first.sentence, last.sentence, weight),
        torch.lerp(a, b, weight),
        torch.ones(1, length, dtype=torch.bool, device=a.device),
    )


def iterate_drawings(
    drawing: Callable[[int], Drawing],
    pairs: Sequence[End],
    view: View,
    *,
    tile_px: int | None = None,
) -> ImageStream:
    """The picture of each number, one after the other; pairs: their prompts and seeds.

    tile_px: as in `networks.sampling.iterate_images`. Generators are in eval mode.
    """

    def make() -> Iterator[Sample]:
        for i, (prompt, seed) in enumerate(pairs):
            with torch.no_grad():
                image = render_tiled(*drawing(i), view, tile_px=tile_px)[0]
            yield Sample(seed, prompt, image)

    return ImageStream(len(pairs), make)


def mixed(codes: Codes, other: Codes, numbers: Sequence[int]) -> Codes:
    """`codes` with the style codes of these numbers taken from `other`; the sentence stays."""
    tokens = codes.tokens.clone()
    tokens[:, list(numbers)] = other.tokens[:, list(numbers)]
    return replace(codes, tokens=tokens)


def mixed_numbers(generator: Generator, chosen: Sequence[int] | None) -> list[int]:
    """The numbers of the style codes to mix, counted from 0; None = the second half.

    Raises `UserError` for a number that the network does not have, and for a network with a single
    style code.
    """
    num_codes = generator.tokens_mean.shape[0]
    if num_codes < 2:
        raise UserError(
            f"--mix: networks of the system {generator.config.kind} have one style code, so "
            "nothing can be mixed"
        )
    numbers = list(range(num_codes // 2, num_codes)) if chosen is None else list(chosen)
    wrong = [number for number in numbers if not 0 <= number < num_codes]
    if wrong:
        raise UserError(
            f"--mix-codes {wrong[0]}: the network has the style codes 0 to {num_codes - 1}"
        )
    return numbers
