"""One picture as thick bi-lines, and as matrices of low rank: what thickness is good for.

CREPS (Nguyen et al., CVPR 2023, figure 1) composes features of two lines,
    F[h, w, k] = sum_d r[h, d, k] c[w, d, k] / sqrt(D),
and decodes every pixel by one MLP. Here the rows r, the columns c and the MLP are fitted to one
picture. Without the MLP and with three channels, F is a matrix of rank D for each colour, and the
best such matrix is the truncated SVD (Eckart and Young 1936). So the SVD with as many numbers shows
what the MLP adds.

Shapes: H rows, W columns, D thickness, K feature channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from networks.layers.linear import EqualLinear
from torch_utils.ops.biline import biline_compose
from torch_utils.rng import seed_for

LEARNING_RATE = 0.02


@dataclass(frozen=True)
class Fit:
    """image: [3, H, W] in [-1, 1] up to overshoot; numbers: how many numbers describe it; psnr: in
    dB; size: the thickness D, or the rank.
    """

    image: torch.Tensor
    numbers: int
    psnr: float
    size: int


class ThickLines(nn.Module):
    """Rows [H, D, K], columns [W, D, K] and an MLP K -> hidden -> hidden -> 3 -> [3, H, W]."""

    def __init__(self, height: int, width: int, thickness: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(1, height, thickness, channels))
        self.columns = nn.Parameter(torch.randn(1, width, thickness, channels))
        self.decoder = nn.Sequential(
            EqualLinear(channels, hidden, activate=True),
            EqualLinear(hidden, hidden, activate=True),
            EqualLinear(hidden, 3, weight_init=0.25),
        )

    def forward(self) -> torch.Tensor:
        return self.decoder(biline_compose(self.rows, self.columns))[0].permute(2, 0, 1)


def fit_lines(
    target: torch.Tensor,
    thickness: int,
    *,
    channels: int = 8,
    hidden: int = 32,
    steps: int = 1000,
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> Fit:
    """Fit thick lines to a picture [3, H, W] in [-1, 1]: Adam on the mean square, its rate falling
    by half a cosine. progress: called after every step.
    """
    height, width = target.shape[1:]
    with torch.random.fork_rng():
        torch.manual_seed(seed_for("fit lines", seed, thickness))
        model = ThickLines(height, width, thickness, channels, hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (model() - target).square().mean().backward()
        optimizer.step()
        schedule.step()
        progress()
    with torch.no_grad():
        image = model()
    numbers = sum(parameter.numel() for parameter in model.parameters())
    return Fit(image, numbers, psnr(image, target), thickness)


def low_rank(target: torch.Tensor, numbers: int) -> Fit:
    """The best matrix of each colour of a picture [3, H, W], of the smallest rank that takes at
    least so many numbers, at most the full rank.
    """
    height, width = target.shape[1:]
    rank = min(math.ceil(numbers / (3 * (height + width))), height, width)
    left, values, right = torch.linalg.svd(target.double(), full_matrices=False)
    image = (left[:, :, :rank] * values[:, None, :rank] @ right[:, :rank]).float()
    return Fit(image, 3 * rank * (height + width), psnr(image, target), rank)


def psnr(image: torch.Tensor, target: torch.Tensor) -> float:
    """In dB, of pictures in [-1, 1] after clamping; infinite where they are equal."""
    error = (image.clamp(-1, 1) - target).double().square().mean().item() / 4
    return math.inf if error == 0 else -10 * math.log10(error)
