"""Adaptive differentiable augmentation (ADA, Karras et al. 2020), a subset: flip, translation, scale, rotation, colour,
cutout. One affine resampling does all geometry, one 3 x 4 matrix all colour. Noise on sentences is here too.

Random draws are made for the whole batch from the named stream and sliced, so no split over ranks changes them.
Shapes: N pictures [N, 3, H, W] in [-1, 1]; each transform is applied to a picture with probability p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from torch_utils.distributed import sum_over_ranks
from training.config import AugmentConfig

NUM_UNIFORMS = 20  # per picture: a gate and up to two parameters for each of the eight transforms


def perturb_sentences(sentences: torch.Tensor, normal: torch.Tensor, noise: float) -> torch.Tensor:
    """LAFITE's fixed perturbation: s' = |s| h / |h| with h = s / |s| + noise * normal / |normal|; all [N, d_s]."""
    unit = functional.normalize(sentences, dim=1) + noise * functional.normalize(normal, dim=1)
    return sentences.norm(dim=1, keepdim=True) * functional.normalize(unit, dim=1)


class Augmentation:
    """State: p and, for ADA, the running sums of sign(D(real)). Uniform draws drive `__call__`.

    p [] is a tensor on the device, because ADA moves it by logits that lie there: to read them
    would wait for the step.
    """

    def __init__(self, config: AugmentConfig, device: torch.device | str) -> None:
        self.config = config
        dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
        p = config.p if config.mode != "noaug" else 0.0
        self.p = torch.tensor(p, dtype=dtype, device=device)
        self.signs = torch.zeros(
            2, device=device
        )  # sum of signs and count of this step on this rank
        self.total = torch.zeros(2, device=device)  # the same over all ranks since p last moved
        self.luma = torch.tensor([0.299, 0.587, 0.114], device=device)

    def state_dict(self) -> dict:
        return {"p": float(self.p), "total": self.total.cpu()}

    def load_state_dict(self, state: dict) -> None:
        self.p.fill_(state["p"])
        self.total.copy_(state["total"])
        self.signs.zero_()  # of a step that was rolled back

    def observe(self, real_logits: torch.Tensor) -> None:
        """Count D's verdict on augmented real pictures; one that is not finite does not count."""
        if self.config.mode == "ada":
            finite = real_logits.isfinite()
            signs = real_logits.detach().float().sign().masked_fill(~finite, 0.0)
            self.signs += torch.stack([signs.sum(), finite.sum(dtype=signs.dtype)])

    def adapt(self, images_seen: int, batch: int) -> None:
        """Move p after a whole step; the images seen decide when. A collective call; nothing waits
        for the device.
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
        moved = (self.p + (total / count - config.target).sign() * step).clamp(0.0, 1.0)
        self.p.copy_(torch.where(count > 0, moved, self.p))
        self.total.zero_()

    def __call__(
        self, images: torch.Tensor, uniforms: Callable[[int], torch.Tensor]
    ) -> torch.Tensor:
        """Augment; differentiable in the images. uniforms(NUM_UNIFORMS) is asked for the draws [N, NUM_UNIFORMS] in [0, 1);
        where p is known to be 0 nothing is drawn and the images come back as they are.
        """
        if self._is_off():
            return images
        draws = _Draws(uniforms(NUM_UNIFORMS).to(images.device), self.p)
        with torch.autocast(
            images.device.type, enabled=False
        ):  # bf16 coordinates would move pixels
            images = self._geometry(images.float(), draws)
            images = self._colour(images, draws)
            return self._cutout(images, draws)

    def _is_off(self) -> bool:
        """Whether p is known to be 0. ADA's p is known on a CPU alone: elsewhere, to look at it
        would wait for the device.
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
            if config.whole_pixels:  # a pixel is 2 / side of the grid's [-1, 1]
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
        side = self.config.cutout
        if not side:
            return images
        gate, x, y = draws.gate(), draws.uniform(), draws.uniform()
        height, width = images.shape[2:]
        rows = (torch.arange(height, device=images.device) + 0.5) / height
        columns = (torch.arange(width, device=images.device) + 0.5) / width
        inside = ((rows - y[:, None]).abs() < side / 2)[:, :, None] & (
            (columns - x[:, None]).abs() < side / 2
        )[:, None, :]
        return images.masked_fill((inside & gate[:, None, None])[:, None], 0.0)


class _Draws:
    """Consumes the columns of `uniforms` in order."""

    def __init__(self, uniforms: torch.Tensor, p: torch.Tensor) -> None:
        self.columns, self.p = iter(uniforms.unbind(dim=1)), p

    def uniform(self) -> torch.Tensor:
        return next(self.columns)

    def symmetric(self) -> torch.Tensor:
        return self.uniform() * 2 - 1

    def gate(self) -> torch.Tensor:
        return self.uniform() < self.p

    def gated(self, strength: float) -> torch.Tensor:
        """Uniform in [-strength, strength] where the gate is open, else 0."""
        return torch.where(self.gate(), self.symmetric() * strength, 0.0)


def _set(n: int, device: torch.device, *entries: Any) -> torch.Tensor:
    """Identity matrices [n, 3, 3] with the given (position, values [n]) entries replaced."""
    matrix = torch.eye(3, device=device).repeat(n, 1, 1)
    for (row, column), values in zip(entries[::2], entries[1::2], strict=True):
        matrix[:, row, column] = values
    return matrix
