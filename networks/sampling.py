"""Pictures from prompts and seeds: drawn on demand, with one seed for each, in tiles.

Picture i depends only on its seed, its prompt and the view, because positions and samples do not
read one another. Batch size and tile size change rounding errors only (up to 1e-5; a test).

Shapes: N batch, d_s sentence width, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.interfaces import Codes, Generator, TextEncoder, TextFeatures
from torch_utils.rng import normal_per_seed, seed_for
from torch_utils.tensors import to_device

TruncationCenter = Literal["prompt", "global"]
NUM_CENTER_LATENTS = 64
MAX_BATCH_PX = 1 << 22  # pixels of all pictures of a batch, 50 MB of float32
# Pixels of a tile by device. On a CPU a tile fits the caches; on a GPU it takes 1 to 2 GB and needs
# few launches.
TILE_PX = {"cpu": 1 << 16, "cuda": 1 << 20, "mps": 1 << 20}


@dataclass(frozen=True)
class Sample:
    """One picture.

    seed: seed of the latent.
    prompt: the prompt.
    image: float32 [3, H, W] on the CPU. Values are nominally in [-1, 1] and may lie beyond.
    """

    seed: int
    prompt: str
    image: torch.Tensor


@dataclass(frozen=True)
class ImageStream:
    """A sized iterable of `Sample`s, which are computed during the iteration.

    Each iteration gives the same pictures.

    num_images: the length.
    make: starts an iteration.
    """

    num_images: int
    make: Callable[[], Iterator[Sample]]

    def __len__(self) -> int:
        return self.num_images

    def __iter__(self) -> Iterator[Sample]:
        return self.make()


def iterate_images(
    generator: Generator,
    encoder: TextEncoder | None,
    prompts: Sequence[str],
    seeds: Sequence[int],
    view: View,
    *,
    truncation: float = 1.0,
    center: TruncationCenter = "prompt",
    text_noise: float | None = None,
    batch_size: int = 16,
    tile_px: int | None = None,
    device: torch.device | str = "cpu",
) -> ImageStream:
    """Pictures of `prompts[i]` with latent seed `seeds[i]`, in order.

    generator: must be on `device` and in eval mode.
    encoder: text encoder; None for an unconditional generator, which reads no prompt.
    prompts: one prompt for each picture.
    seeds: one seed for each picture.
    view: the view to draw.
    truncation: psi; 1 = no truncation.
    center: centre of the truncation; see `truncate`.
    text_noise: length of the noise on the sentences, relative to their length. The seeds determine
        the noise, and psi scales it. None takes the value of the generator's config.
    batch_size: number of pictures of a batch. It is reduced for views of many pixels, so that a
        batch has at most `MAX_BATCH_PX` pixels or one picture.
    tile_px: maximum number of pixels of a batch that are rendered at once; None takes `TILE_PX` of
        the device.
    device: the device of generator and encoder.

    Raises `UserError` if psi is not finite, and for `text_noise` of a network without text.
    """
    assert len(prompts) == len(seeds)
    check_truncation(truncation)
    batch_size = max(1, min(batch_size, MAX_BATCH_PX // (view.height * view.width)))

    def make() -> Iterator[Sample]:
        for start in range(0, len(seeds), batch_size):
            stop = min(start + batch_size, len(seeds))
            with torch.no_grad():
                codes = draw_codes(
                    generator,
                    encoder,
                    prompts[start:stop],
                    seeds[start:stop],
                    truncation,
                    center,
                    text_noise,
                    device,
                )
                images = render_tiled(generator, codes, view, tile_px=tile_px)
            for i in range(stop - start):
                yield Sample(int(seeds[start + i]), prompts[start + i], images[i])

    return ImageStream(len(seeds), make)


def check_truncation(truncation: float) -> None:
    """Raise `UserError` if psi is not finite."""
    if not math.isfinite(truncation):
        raise UserError(f"--trunc {truncation}: expected a number, usually between 0 and 1")


@torch.no_grad()
def draw_codes(
    generator: Generator,
    encoder: TextEncoder | None,
    prompts: Sequence[str],
    seeds: Sequence[int],
    truncation: float = 1.0,
    center: TruncationCenter = "prompt",
    text_noise: float | None = None,
    device: torch.device | str = "cpu",
) -> Codes:
    """Codes of `prompts[i]` with latent seed `seeds[i]`; see `iterate_images` for the arguments.

    Raises `UserError` if psi is not finite.
    """
    z, text = draw_inputs(generator, encoder, prompts, seeds, truncation, text_noise, device)
    return codes_of(generator, z, text, truncation, center)


@torch.no_grad()
def draw_inputs(
    generator: Generator,
    encoder: TextEncoder | None,
    prompts: Sequence[str],
    seeds: Sequence[int],
    truncation: float = 1.0,
    text_noise: float | None = None,
    device: torch.device | str = "cpu",
) -> tuple[torch.Tensor, TextFeatures | None]:
    """What the mapping network reads: latents [N, *latent_shape], and texts where it reads any.

    The arguments are as in `iterate_images`; `truncation` scales the noise on the sentences. Raises
    `UserError` for a psi that is not finite.
    """
    check_truncation(truncation)
    text = encoder.encode_text(list(prompts)).to(device) if encoder else None
    noise = noise_length(generator, truncation, text_noise)
    if text is not None and noise:
        text = text.perturbed(to_device(sentence_noise(seeds, text), device), noise)
    return to_device(normal_per_seed(seeds, generator.latent_shape), device), text


def noise_length(generator: Generator, truncation: float, text_noise: float | None) -> float:
    """Length of the noise on the sentences; see `iterate_images` for the arguments.

    Raises `UserError` for noise on the sentences of a network that reads none.
    """
    if text_noise and not generator.reads_text:
        raise UserError("--text-noise: this network was trained without text; leave it out")
    return truncation * (generator.config.text_noise if text_noise is None else text_noise)


def sentence_noise(seeds: Sequence[int], text: TextFeatures) -> torch.Tensor:
    """The noise that `TextFeatures.perturbed` adds, one row for each seed.  # [N, d_s] float32"""
    return normal_per_seed(
        [seed_for("text noise", seed) for seed in seeds], text.sentence.shape[1:]
    )


def codes_of(
    generator: Generator,
    z: torch.Tensor,
    text: TextFeatures | None,
    truncation: float = 1.0,
    center: TruncationCenter = "prompt",
) -> Codes:
    """Codes of latents z [N, *latent_shape] and N texts, truncated by `truncate`."""
    codes = generator.mapping(z, text)
    return codes if truncation == 1 else truncate(generator, codes, text, truncation, center)


def truncate(
    generator: Generator,
    codes: Codes,
    text: TextFeatures | None,
    psi: float,
    center: TruncationCenter = "prompt",
) -> Codes:
    """Move the style codes w towards a centre c: c + psi (w - c).

    psi: 0 gives the centre, 1 leaves the codes unchanged.
    center: 'prompt' takes the mean over 64 fixed latents of the same prompt, which keeps the text.
        'global' takes the running mean of the training, the truncation trick of StyleGAN.
    """
    if center == "global":
        return replace(codes, tokens=_between(generator.tokens_mean, codes.tokens, psi))
    latents = to_device(center_latents(generator.latent_shape), codes.tokens.device)
    return codes_around(generator, codes, text, latents, psi)


def center_latents(shape: Sequence[int]) -> torch.Tensor:
    """The fixed latents whose mean style code is the centre of a prompt.  # [64, *shape] float32"""
    fixed = [seed_for("truncation", i) for i in range(NUM_CENTER_LATENTS)]
    return normal_per_seed(fixed, shape)


def codes_around(
    generator: Generator,
    codes: Codes,
    text: TextFeatures | None,
    latents: torch.Tensor,
    psi: float,
) -> Codes:
    """Codes moved towards the mean style code of `latents` [M, *latent_shape] with the same text.

    psi: as in `truncate`.
    """
    rows = []
    for i in range(len(codes)):
        same = None if text is None else text[i : i + 1].repeat_interleave(len(latents))
        rows.append(generator.mapping(latents, same).tokens.mean(dim=0))
    return replace(codes, tokens=_between(torch.stack(rows), codes.tokens, psi))


def _between(center: torch.Tensor, tokens: torch.Tensor, psi: float) -> torch.Tensor:
    return center + psi * (tokens - center)


def render_tiled(
    generator: Generator, codes: Codes, view: View, *, tile_px: int | None = None
) -> torch.Tensor:
    """The view of every code, rendered in tiles.  # [N, 3, H, W] float32 on the CPU

    `Generator.prepare` runs once for the whole view, `Generator.render` once for each tile.

    tile_px: maximum number of pixels of a tile, summed over the batch; None takes `TILE_PX` of the
        device. Where a pixel is the mean of several points, the points count.
    """
    prepared = generator.prepare(codes, view)
    tile_px = tile_px or TILE_PX[codes.tokens.device.type]
    points = len(codes) * generator.samples**2  # that are drawn for one pixel
    height, width = tile_shape(view.height, view.width, max(1, tile_px // points))
    if (height, width) == (view.height, view.width):
        return generator.render(prepared, slice(0, height), slice(0, width)).float().cpu()
    image = torch.empty(len(codes), 3, view.height, view.width)
    for top in range(0, view.height, height):
        for left in range(0, view.width, width):
            rows = slice(top, min(top + height, view.height))
            columns = slice(left, min(left + width, view.width))
            image[:, :, rows, columns] = generator.render(prepared, rows, columns).float().cpu()
    return image


def tile_shape(height: int, width: int, max_px: int) -> tuple[int, int]:
    """Height and width of a tile of at most `max_px` pixels: whole rows, or a part of one row."""
    if height * width <= max_px:
        return height, width
    if width <= max_px:
        return max_px // width, width
    return 1, max_px
