"""Soft colour histograms of a picture, over the whole picture and over rings around its middle.

The last features of a classifier describe the object but hardly its colours, while captions of
flowers describe little but colours. With these histograms as additional inputs of the image head,
R-precision of unseen flowers rose in a trial (docs/experiment_log.md).

Shapes: N batch, R regions, A anchors.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIDE = 32  # side in pixels to which pictures are resized before counting
LEVELS = 5  # number of anchor colours along each of red, green and blue
WIDTH = 0.2  # standard deviation of an anchor; colours are in [-1, 1]
RADII = (0.15, 0.3, 0.45)  # radii that bound the rings, as a share of the picture's side
NUM_SHARES = LEVELS**3 * (len(RADII) + 2)


class ColourShares(nn.Module):
    """[N, 3, H, W] in [-1, 1] -> [N, NUM_SHARES] float32, differentiable.

    A pixel of colour p is assigned to the A = LEVELS^3 anchor colours a of an even grid with the
    weights softmax(-|p - a|^2 / (2 WIDTH^2)). The output is the square root of the mean weight of
    each anchor over each region. The regions are the whole picture, the disc within the first
    radius, the rings between neighbouring radii, and the area outside the last radius.
    """

    anchors: torch.Tensor
    regions: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        level = torch.linspace(-1, 1, LEVELS)
        grid = torch.meshgrid(level, level, level, indexing="ij")
        self.register_buffer("anchors", torch.stack(grid, dim=-1).view(-1, 3), persistent=False)
        position = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
        radius = (position[:, None].square() + position.square()).sqrt()
        edges = (0.0, *RADII, 1.0)
        rings = [
            (inner <= radius) & (radius < outer)
            for inner, outer in zip(edges, edges[1:], strict=False)
        ]
        regions = torch.stack([torch.ones_like(radius), *(ring.float() for ring in rings)])
        regions = regions / regions.sum(dim=(1, 2), keepdim=True)
        self.register_buffer("regions", regions.flatten(1), persistent=False)  # [R, SIDE^2]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        small = functional.interpolate(
            images.float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
        pixels = small.flatten(2).transpose(1, 2)  # [N, SIDE^2, 3]
        # |p|^2 is equal for all anchors of a pixel and cancels in the softmax.
        scores = pixels @ self.anchors.T - self.anchors.square().sum(dim=1) / 2
        shares = self.regions @ (scores / WIDTH**2).softmax(dim=2)  # [N, R, A]
        return (shares + 1e-6).sqrt().flatten(1)
