"""How much of a picture has which colour, in its middle and around it.

The last features of a classifier tell what is seen and hardly which colour it has; captions of
flowers say little else. R-precision of unseen flowers rises from 0.102 to 0.118 with these shares
beside the features (docs/experiment_log.md).

Shapes: N batch, R regions, A anchors.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIDE = 32  # pixels of the picture that is counted
LEVELS = 5  # anchors along red, green and blue each
WIDTH = 0.2  # standard deviation of an anchor, of values in [-1, 1]
RADII = (0.15, 0.3, 0.45)  # of the regions around the middle, in sides of the picture
NUM_SHARES = LEVELS**3 * (len(RADII) + 2)


class ColourShares(nn.Module):
    """[N, 3, H, W] in [-1, 1] -> [N, NUM_SHARES] float32, differentiable.

    Every pixel belongs to the A = LEVELS^3 anchors a of an even grid by softmax(-|p - a|^2 /
    (2 WIDTH^2)). The output is the square root of an anchor's mean over a region: the whole
    picture, the disc within the first radius, the rings between radii, and what lies beyond the
    last radius.
    """

    anchors: torch.Tensor
    regions: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        level = torch.linspace(-1, 1, LEVELS)
        grid = torch.meshgrid(level, level, level, indexing="ij")
        self.register_buffer("anchors", torch.stack(grid, dim=-1).view(-1, 3), persistent=False)
        at = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
        radius = (at[:, None].square() + at.square()).sqrt()
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
        # |p|^2 is the same for all anchors of a pixel, so softmax does without it.
        scores = pixels @ self.anchors.T - self.anchors.square().sum(dim=1) / 2
        shares = self.regions @ (scores / WIDTH**2).softmax(dim=2)  # [N, R, A]
        return (shares + 1e-6).sqrt().flatten(1)
