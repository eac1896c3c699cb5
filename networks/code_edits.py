"""Codes between those of two prompts, and codes made of those of two seeds; pictures of any codes.

Shapes: N pictures, k style codes, d their width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.interfaces import Codes, Generator
from networks.sampling import ImageStream, Sample, render_tiled

Draw = Callable[[str, int], Codes]  # of a prompt and a seed: its codes, N = 1


def iterate_codes(
    generator: Generator,
    codes: Callable[[int], Codes],
    pairs: Sequence[tuple[str, int]],
    view: View,
    *,
    tile_px: int | None = None,
) -> ImageStream:
    """A picture of the codes of each number, one after the other; pairs: their prompts and seeds.

    tile_px: as in `networks.sampling.iterate_images`. The generator is in eval mode.
    """

    def make() -> Iterator[Sample]:
        for i, (prompt, seed) in enumerate(pairs):
            with torch.no_grad():
                image = render_tiled(generator, codes(i), view, tile_px=tile_px)[0]
            yield Sample(seed, prompt, image)

    return ImageStream(len(pairs), make)


def interpolated(draw: Draw, first: str, last: str, seed: int, weight: float) -> Codes:
    """The codes at `weight` (0 to 1) on the straight line between those of two prompts, for one
    seed. Style codes and bypassing sentences are both interpolated.
    """
    a, b = draw(first, seed), draw(last, seed)
    tokens = torch.lerp(a.tokens, b.tokens, weight)
    return Codes(tokens, torch.lerp(a.sentence, b.sentence, weight))


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
            f"--mix: a {generator.config.kind} network has one style code, so nothing can be mixed"
        )
    numbers = list(range(num_codes // 2, num_codes)) if chosen is None else list(chosen)
    wrong = [number for number in numbers if not 0 <= number < num_codes]
    if wrong:
        raise UserError(
            f"--mix-codes {wrong[0]}: the network has the style codes 0 to {num_codes - 1}"
        )
    return numbers
