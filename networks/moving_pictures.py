"""The frames of a video: the view, the latent or the prompt changes from frame to frame.

zoom: into the window by some octaves and out again, so that the video may be repeated without end.
pan: the window moves along a line. rotate: the picture turns once around. latent: from seed to seed
on great circles and back to the first (Shoemake 1985, slerp). prompt: from one prompt to another by
linear interpolation of the codes, with one seed.

A generator samples a function of the place. So a place that two frames show has the same colour in
both, and nothing pops up in a zoom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from dnnlib.errors import UserError
from networks.coordinates import View, are_distinct
from networks.interfaces import Codes, Generator, TextEncoder, codes_between
from networks.sampling import (
    TruncationCenter,
    codes_of,
    draw_codes,
    noise_length,
    render_tiled,
    sentence_noise,
)
from torch_utils.rng import normal_per_seed
from torch_utils.tensors import to_device, to_uint8

Kind = Literal["zoom", "pan", "rotate", "latent", "prompt"]
KINDS: tuple[Kind, ...] = ("zoom", "pan", "rotate", "latent", "prompt")
MAX_OCTAVES = 20


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How the view moves. Frames are counted from 0.

    center: (x, y) in frame units, the point that a zoom leaves in place. octaves: how far a zoom
    goes in; out for negative ones. shift: (x, y) in frame units by which a pan moves the window.
    Raises `UserError` for more than `MAX_OCTAVES`.
    """

    kind: Kind
    num_frames: int
    center: tuple[float, float] = (0.5, 0.5)
    octaves: float = 5.0
    shift: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self) -> None:
        if not abs(self.octaves) <= MAX_OCTAVES:
            raise UserError(
                f"--octaves {self.octaves:g}: expected a number from -{MAX_OCTAVES} to "
                f"{MAX_OCTAVES}"
            )

    def view(self, view: View, frame: int) -> View:
        """What a frame shows, where the video starts with `view`.

        Raises `UserError` where float32 cannot tell the samples of the frame apart.
        """
        if self.kind == "rotate":
            return view.transformed(rotate=360 * frame / self.num_frames, center=self.center)
        if self.kind not in ("zoom", "pan"):
            return view
        box = (
            self._zoomed(view.box, frame) if self.kind == "zoom" else self._panned(view.box, frame)
        )
        across, down = (box[2] - box[0]) / view.width, (box[3] - box[1]) / view.height
        if not are_distinct(across, down, box):
            raise UserError(
                f"frame {frame} would show {', '.join(f'{side:g}' for side in box)} in "
                f"{view.width}x{view.height} pixels, which coordinates in float32 cannot tell "
                "apart; use a smaller --octaves, --shift or --size"
            )
        return replace(view, box=box)

    def _zoomed(
        self, box: tuple[float, float, float, float], frame: int
    ) -> tuple[float, float, float, float]:
        turn = 2 * math.pi * frame / self.num_frames
        scale = 2.0 ** (-self.octaves * (1 - math.cos(turn)) / 2)
        x, y = self.center
        x0, y0, x1, y1 = box
        return (
            x + (x0 - x) * scale,
            y + (y0 - y) * scale,
            x + (x1 - x) * scale,
            y + (y1 - y) * scale,
        )

    def _panned(
        self, box: tuple[float, float, float, float], frame: int
    ) -> tuple[float, float, float, float]:
        x, y = (side * frame / (self.num_frames - 1) for side in self.shift)
        return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Spherical interpolation between two latents of any one shape: a at t = 0, b at t = 1.

    The angle is that between the flattened latents. Where they point in one direction, or in
    opposite ones, the interpolation is linear.
    """
    cosine = torch.dot(a.flatten(), b.flatten()) / (a.norm() * b.norm())
    angle = float(cosine.double().clamp(-1, 1).acos())
    if math.sin(angle) < 1e-6:
        return torch.lerp(a, b, t)
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


@torch.no_grad()
def latent_walk(
    generator: Generator,
    encoder: TextEncoder | None,
    prompt: str,
    seeds: Sequence[int],
    num_frames: int,
    truncation: float = 1.0,
    center: TruncationCenter = "prompt",
    text_noise: float | None = None,
    device: torch.device | str = "cpu",
) -> Callable[[int], Codes]:
    """The codes of every frame of a walk through the seeds and back to the first. The noise on the
    sentence, where there is any, walks from seed to seed in the same way.

    Raises `UserError` for fewer than two seeds.
    """
    if len(seeds) < 2:
        raise UserError("--kind latent: needs at least two seeds to walk between, such as 0-3")
    keys = to_device(normal_per_seed(seeds, generator.latent_shape), device)
    text = encoder.encode_text([prompt]).to(device) if encoder else None
    noise = noise_length(generator, truncation, text_noise)
    noises = to_device(sentence_noise(seeds, text), device) if text is not None and noise else None

    def between(keys: torch.Tensor, frame: int) -> torch.Tensor:
        at, t = divmod(frame * len(seeds) / num_frames, 1)
        return slerp(keys[int(at)], keys[(int(at) + 1) % len(seeds)], t)[None]

    def codes(frame: int) -> Codes:
        z, sentence = between(keys, frame), text
        if text is not None and noises is not None:
            sentence = text.perturbed(between(noises, frame), noise)
        return codes_of(generator, z, sentence, truncation, center)

    return codes


@torch.no_grad()
def prompt_walk(
    generator: Generator,
    encoder: TextEncoder,
    prompts: tuple[str, str],
    seed: int,
    num_frames: int,
    truncation: float = 1.0,
    center: TruncationCenter = "prompt",
    text_noise: float | None = None,
    device: torch.device | str = "cpu",
) -> Callable[[int], Codes]:
    """The codes of every frame from the first prompt (frame 0) to the second (the last frame)."""
    ends = draw_codes(
        generator, encoder, prompts, [seed, seed], truncation, center, text_noise, device
    )

    return lambda frame: codes_between(ends[:1], ends[1:], frame / (num_frames - 1))


@torch.no_grad()
def frames(
    generator: Generator,
    codes: Callable[[int], Codes],
    view: View,
    motion: Motion,
    tile_px: int | None = None,
) -> Iterator[torch.Tensor]:
    """uint8 [3, H, W] of every frame, drawn when it is asked for.

    codes: of a frame, one picture. Raises `UserError` for pixels that are not finite.
    """
    for frame in range(motion.num_frames):
        image = render_tiled(generator, codes(frame), motion.view(view, frame), tile_px=tile_px)[0]
        if not image.isfinite().all():
            raise UserError(
                f"frame {frame} is not finite: the network overflows there; take an earlier "
                "snapshot, a --trunc nearer 1 or a --window nearer the frame"
            )
        yield to_uint8(image)
