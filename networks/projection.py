"""Projection: the codes of which a generator draws a given picture, found by gradient descent.

After StyleGAN2 (Karras et al. 2020, appendix D), for pictures of any generator: Adam on the style
codes and on the sentence that bypasses the mapping network. The loss compares pixels and the
feature maps of a frozen EfficientNet-lite0 at several scales,
    loss = mean_i |f_i(x) - f_i(t)|^2 / |f_i(t)|^2 + PIXEL_WEIGHT mean((x - t)^2),
where x is the picture, t the target, both in [-1, 1], and f_i the features of scale i. The noise
that StyleGAN2 adds to the codes is left out: it did not help (docs/experiment_log.md). Noise
inputs and their regulariser are left out too, because our generators have none.

Shapes: N batch, k style codes, d their width, R side of the trained frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.interfaces import Codes, Generator, TextFeatures
from networks.pretrained.scales import FrozenScales
from torch_utils.rng import normal_per_row
from torch_utils.tensors import to_device, to_uint8

TOWER, TOWER_PX, NUM_SCALES = "lite0", 96, 4
PIXEL_WEIGHT = 5.0
NUM_LATENTS = 64  # of which the start is the mean
LEARNING_RATE = 1.0  # in standard deviations of the style codes
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # shares of all steps


@dataclass(frozen=True)
class Step:
    """What one step saw: the loss, and the codes that it was computed of."""

    loss: float
    codes: Codes


class TargetLoss:
    """Pictures [N, 3, R, R] -> the loss of each against one target [3, R, R], both in [-1, 1]."""

    def __init__(self, target: torch.Tensor, tower: FrozenScales) -> None:
        self.target, self.tower = target[None], tower
        with torch.no_grad():
            self.features = tower(self.target)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        loss = PIXEL_WEIGHT * (images - self.target).square().mean(dim=(1, 2, 3))
        for maps, target_maps in zip(self.tower(images), self.features, strict=True):
            distance = (maps - target_maps).square().sum(dim=(1, 2, 3)) / target_maps.square().sum()
            loss = loss + distance / len(self.features)
        return loss


def start(
    generator: Generator, text: TextFeatures | None, seed: int, *, at_mean: bool
) -> tuple[Codes, float]:
    """The codes at which the search begins, and the standard deviation of style codes.

    text: one row, None for a generator without text. The codes are the mean over latents of this
    text. at_mean: take the mean of all training for the style codes instead, so that the text gives
    the bypassing sentence alone.
    """
    z = normal_per_row(range(NUM_LATENTS), generator.latent_shape, "projection", seed)
    z = to_device(z, generator.tokens_mean.device)
    with torch.no_grad():
        codes = generator.mapping(z, None if text is None else text.repeat_interleave(NUM_LATENTS))
    tokens = codes.tokens.mean(dim=0)
    spread = (codes.tokens - tokens).square().mean().sqrt().item()
    tokens = generator.tokens_mean if at_mean else tokens
    return Codes(tokens[None].clone(), codes.sentence[:1].clone()), spread


def project(
    generator: Generator,
    target: torch.Tensor,
    first: Codes,
    *,
    steps: int,
    spread: float,
    tower: FrozenScales | None = None,
) -> Iterator[Step]:
    """`steps` steps of the search, lazily, and at the end one more `Step` without an update.

    target: [3, R, R] in [-1, 1], on the generator's device. first: the codes at the start, N = 1.
    spread: standard deviation of the style codes, the unit of the learning rate. The generator's
    parameters get no gradient.
    """
    generator = generator.requires_grad_(False)
    device, view = target.device, View.square(target.shape[-1])
    loss_of = TargetLoss(target, tower or FrozenScales(TOWER, TOWER_PX, NUM_SCALES).to(device))
    tokens, sentence = (x.detach().clone().requires_grad_() for x in (first.tokens, first.sentence))
    optimizer = torch.optim.Adam([tokens, sentence], betas=(0.9, 0.999))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * spread * rate(step / steps)
        codes = Codes(tokens.detach().clone(), sentence.detach().clone())
        images = generator.synthesis(Codes(tokens, sentence), view)
        loss = loss_of(images).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield Step(loss.item(), codes)
    codes = Codes(tokens.detach(), sentence.detach())
    with torch.no_grad():
        loss = loss_of(generator.synthesis(codes, view)).sum()
    yield Step(loss.item(), codes)


def best(steps: Iterable[Step]) -> tuple[int, Step]:
    """The step of least loss and its number. Adam can leave a good place, even that of the start.

    Raises `UserError` where no loss is finite.
    """
    finite = ((i, step) for i, step in enumerate(steps) if math.isfinite(step.loss))
    least = min(finite, key=lambda numbered: numbered[1].loss, default=None)
    if least is None:
        raise UserError("--network: its pictures are not finite; take another snapshot")
    return least


def rate(progress: float) -> float:
    """The factor of the learning rate: a linear ramp at the start, half a cosine at the end."""
    end = min(1.0, (1 - progress) / RAMP_DOWN)
    return min(1.0, progress / RAMP_UP + 1e-2) * (0.5 - 0.5 * math.cos(math.pi * end))


def psnr(generator: Generator, codes: Codes, target: torch.Tensor) -> float:
    """PSNR in dB of the 8-bit picture of `codes` against a target [3, R, R] in [-1, 1]."""
    with torch.no_grad():
        image = generator.synthesis(codes, View.square(target.shape[-1]))[0]
    error = (to_uint8(image).double() - to_uint8(target).double()).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
