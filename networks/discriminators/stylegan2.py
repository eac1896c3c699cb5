"""StyleGAN2's residual discriminator (Karras et al. 2020, figure 7) with a text projection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn

from dnnlib.bounds import AtLeastOne, check_bounds
from networks.discriminators.head import TextProjectionHead
from networks.interfaces import Discriminator, TextFeatures, Verdict
from networks.layers.conv import EqualConv2d, ResidualDown
from networks.layers.scale_widths import scale_widths


@dataclass(frozen=True, kw_only=True)
class Stylegan2DiscriminatorConfig:
    """Config of StyleGAN2's discriminator.

    resolution: side of the pictures, a power of two.
    channel_base, channel_max: scale s has min(channel_base / s, channel_max) channels.
    sentence_dim, feature_dim: see `TextProjectionHead`.
    group_size: samples of a group of the minibatch standard deviation.
    """

    kind: ClassVar[str] = "stylegan2"

    resolution: int = 256
    channel_base: int = 16384
    channel_max: int = 512
    sentence_dim: int = 512
    feature_dim: int = 512
    group_size: AtLeastOne = 4

    def __post_init__(self) -> None:
        check_bounds(self, "discriminator.")
        scale_widths("discriminator", self.resolution, self.channel_base, self.channel_max)

    def with_io(
        self, resolution: int, sentence_dim: int, feature_dim: int
    ) -> Stylegan2DiscriminatorConfig:
        return replace(
            self, resolution=resolution, sentence_dim=sentence_dim, feature_dim=feature_dim
        )

    def build(self) -> Stylegan2Discriminator:
        return Stylegan2Discriminator(self)


class Stylegan2Discriminator(Discriminator):
    """Images [N, 3, R, R] in [-1, 1] -> `trunk` -> hidden [N, C] -> `judge` -> Verdict.

    R is `config.resolution`.
    """

    def __init__(self, config: Stylegan2DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = scale_widths(
            "discriminator", config.resolution, config.channel_base, config.channel_max
        )
        scales = list(widths)
        self.from_rgb = EqualConv2d(3, widths[config.resolution], 1)
        self.blocks = nn.ModuleList(
            ResidualDown(widths[a], widths[b], "binomial") for a, b in pairwise(scales)
        )
        self.head = TextProjectionHead(
            widths[4],
            sentence_dim=config.sentence_dim,
            feature_dim=config.feature_dim,
            group_size=config.group_size,
        )

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        x = self.from_rgb(images)
        for block in self.blocks:
            x = block(x)
        return self.head.trunk(x)

    def judge(self, hidden: torch.Tensor, text: TextFeatures | None) -> Verdict:
        return self.head.judge(hidden, text)
