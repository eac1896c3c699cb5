"""Adaptive differentiable augmentation (ADA, Karras et al. 2020) with a subset of its transforms.

The transforms are flip, translation, scale, rotation, colour and cutout. One affine resampling
computes all geometric transforms, and one 3 x 4 matrix all colour transforms. Each transform is
applied to a picture with probability p.

Random numbers are drawn for the whole batch from a named stream and then sliced, so they do not
depend on the split over ranks.

Shapes: N pictures [N, 3, H, W] in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn import functional

from dnnlib.bounds import AtLeastOne, NotNegative, Positive, Probability, check_bounds
from torch_utils.distributed import sum_over_ranks

NUM_UNIFORMS = 20  # per picture: a gate and up to two parameters for each of the eight transforms


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Differentiable augmentation of the pictures that D sees (ADA, Karras et al. 2020).

    mode: noaug, fixed (p stays) or ada (p follows the target).
    p: probability of a transform, at the start for ada.
    target: E[sign(D(real))] that ADA holds.
    kimg: time that p needs from 0 to 1.
    interval: D steps between adjustments of p.
    flip: mirror pictures at random.
    translation .. cutout: maximal strength of a transform, 0 = off. Translation is in frame widths,
        scale in octaves, rotation in turns, the three of colour in units of the [-1, 1] range,
        cutout is the side of the square in frame widths.
    whole_pixels: translation by whole pixels, which blurs nothing where scale and rotation are 0.
    """

    mode: Literal["noaug", "fixed", "ada"] = "ada"
    p: Probability = 0.0
    target: float = 0.6
    kimg: Positive = 500.0
    interval: AtLeastOne = 4
    flip: bool = True
    translation: NotNegative = 0.125
    whole_pixels: bool = False
    scale: NotNegative = 0.2
    rotation: NotNegative = 0.0
    brightness: NotNegative = 0.2
    contrast: NotNegative = 0.5
    saturation: NotNegative = 1.0
    cutout: NotNegative = 0.5

    def __post_init__(self) -> None:
        check_bounds(self, "augment.")


class Augmentation:
    """The transforms of a run and their probability p, which ADA adapts.

    The state is p and, for ADA, the sums of sign(D(real)) since p last changed. p [] is a tensor
    on the device: ADA changes it by logits on the device, and reading these would wait for the
    training step.
    """

    def __init__(self, config: AugmentConfig, device: torch.device | str) -> None:
        self.config = config
        dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
        p = config.p if config.mode != "noaug" else 0.0
        self.p = torch.tensor(p, dtype=dtype, device=device)
        # The sum of the signs and their count: in this step on this rank; since p last changed, on
        # all ranks.
        self.signs = torch.zeros(2, device=device)
        self.total = torch.zeros(2, device=device)
        self.luma = torch.tensor([0.299, 0.587, 0.114], device=device)

    def state_dict(self) -> dict:
        return {"p": float(self.p), "total": self.total.cpu()}

    def load_state_dict(self, state: dict) -> None:
        self.p.fill_(state["p"])
        self.total.copy_(state["total"])
        self.signs.zero_()  # after a rollback, these are the signs of a step that does not count

    def observe(self, real_logits: torch.Tensor) -> None:
        """Add the signs of D's logits of augmented real pictures [N] or [N, P]; skip NaN, inf."""
        if self.config.mode == "ada":
            finite = real_logits.isfinite()
            signs = real_logits.detach().float().sign().masked_fill(~finite, 0.0)
            self.signs += torch.stack([signs.sum(), finite.sum(dtype=signs.dtype)])

    def adapt(self, images_seen: int, batch: int) -> None:
        """Adapt p after a training step, once in `config.interval` steps.

        images_seen: real images shown so far, including this step. batch: real images of a step on
        all ranks. This is a collective call that does not wait for the device.
        """
        config = self.config
        if config.mode != "ada":
            return
        self.total += sum_over_ranks(self.signs)
        self.signs.zero_()
        if (images_seen // batch) % config.interval:
            return
        step = batch * config.interval / (config.kimg * 1000)
        total, count = self.total.to(self.p.dtype)
        adapted = (self.p + (total / count - config.target).sign() * step).clamp(0.0, 1.0)
        self.p.copy_(torch.where(count > 0, adapted, self.p))
        self.total.zero_()

    def __call__(
        self, images: torch.Tensor, uniforms: Callable[[int], torch.Tensor]
    ) -> torch.Tensor:
        """Augment images [N, 3, H, W]; differentiable in the images.

        uniforms: called as uniforms(NUM_UNIFORMS), returns random numbers [N, NUM_UNIFORMS] in
        [0, 1). If p is known to be 0, it is not called and the images are returned unchanged.
        """
        if self._is_off():
            return images
        draws = _Draws(uniforms(NUM_UNIFORMS).to(images.device), self.p)
        # Without autocast: coordinates in bf16 would be so inexact that pixels move.
        with torch.autocast(images.device.type, enabled=False):
            images = self._geometry(images.float(), draws)
            images = self._colour(images, draws)
            return self._cutout(images, draws)

    def _is_off(self) -> bool:
        """Whether p is known to be 0.

        The p of ADA is read only on a CPU, because reading it would wait for any other device.
        """
        if self.config.mode == "ada":
            return self.p.device.type == "cpu" and bool(self.p == 0)
        return self.config.mode == "noaug" or self.config.p == 0

    def _geometry(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        config = self.config
        n = len(images)
        matrix = torch.eye(3, device=images.device).repeat(n, 1, 1)
        if config.flip:
            flip = draws.gate() & (draws.uniform() < 0.5)
            matrix = _set(n, images.device, (0, 0), torch.where(flip, -1.0, 1.0)) @ matrix
        if config.scale:
            factor = torch.exp2(draws.gated(config.scale))
            matrix = _set(n, images.device, (0, 0), factor, (1, 1), factor) @ matrix
        if config.rotation:
            angle = draws.gated(config.rotation) * (2 * math.pi)
            cos, sin = angle.cos(), angle.sin()
            matrix = (
                _set(n, images.device, (0, 0), cos, (0, 1), -sin, (1, 0), sin, (1, 1), cos) @ matrix
            )
        if config.translation:
            gate = draws.gate()
            shift = [
                torch.where(gate, draws.symmetric() * config.translation * 2, 0.0) for _ in range(2)
            ]
            if config.whole_pixels:  # the grid spans [-1, 1], so one pixel is 2 / side
                sides = images.shape[3], images.shape[2]
                shift = [
                    (x * (side / 2)).round() * (2 / side)
                    for x, side in zip(shift, sides, strict=True)
                ]
            matrix = _set(n, images.device, (0, 2), shift[0], (1, 2), shift[1]) @ matrix
        grid = functional.affine_grid(matrix[:, :2], list(images.shape), align_corners=False)
        exact = config.whole_pixels and not (config.scale or config.rotation)
        mode = "nearest" if exact else "bilinear"
        return functional.grid_sample(
            images, grid, mode=mode, padding_mode="reflection", align_corners=False
        )

    def _colour(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        config = self.config
        n = len(images)
        if not (config.brightness or config.contrast or config.saturation):
            return images
        brightness = draws.gated(config.brightness)
        contrast = torch.exp2(draws.gated(config.contrast))
        saturation = torch.exp2(draws.gated(config.saturation))
        grey = self.luma.expand(3, 3)  # every output channel is the luma
        eye = torch.eye(3, device=images.device)
        matrix = contrast.view(n, 1, 1) * (grey + saturation.view(n, 1, 1) * (eye - grey))
        flat = torch.baddbmm(brightness.view(n, 1, 1), matrix, images.flatten(2))
        return flat.view_as(images)

    def _cutout(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        """Set a rectangle to 0 whose sides are `config.cutout` times height and width."""
        side = self.config.cutout
        if not side:
            return images
        gate, x, y = draws.gate(), draws.uniform(), draws.uniform()
        height, width = images.shape[2:]
        rows = (torch.arange(height, device=images.device) + 0.5) / height
        columns = (torch.arange(width, device=images.device) + 0.5) / width
        in_rows = (rows - y[:, None]).abs() < side / 2
        in_columns = (columns - x[:, None]).abs() < side / 2
        inside = in_rows[:, :, None] & in_columns[:, None, :]
        return images.masked_fill((inside & gate[:, None, None])[:, None], 0.0)


class _Draws:
    """Random numbers of a batch. Every call takes the next columns of `uniforms` [N, columns]."""

    def __init__(self, uniforms: torch.Tensor, p: torch.Tensor) -> None:
        self.columns, self.p = iter(uniforms.unbind(dim=1)), p

    def uniform(self) -> torch.Tensor:
        """Uniform in [0, 1) [N]."""
        return next(self.columns)

    def symmetric(self) -> torch.Tensor:
        """Uniform in [-1, 1) [N]."""
        return self.uniform() * 2 - 1

    def gate(self) -> torch.Tensor:
        """True with probability p [N]: whether a transform is applied to each picture."""
        return self.uniform() < self.p

    def gated(self, strength: float) -> torch.Tensor:
        """Uniform in [-strength, strength) with probability p, else 0 [N]."""
        return torch.where(self.gate(), self.symmetric() * strength, 0.0)


def _set(n: int, device: torch.device, *entries: Any) -> torch.Tensor:
    """Identity matrices [n, 3, 3] with entries replaced.

    entries: (row, column) and values [n] in turn.
    """
    matrix = torch.eye(3, device=device).repeat(n, 1, 1)
    for (row, column), values in zip(entries[::2], entries[1::2], strict=True):
        matrix[:, row, column] = values
    return matrix
