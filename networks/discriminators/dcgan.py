"""DCGAN's discriminator (Radford et al. 2016), conditioned on text as by Reed et al. 2016.

Strided convolutions with batch norm and leaky ReLU reduce the picture to 4 x 4 features. The
projected text is repeated over the 4 x 4 positions and concatenated to the features; a 1 x 1
convolution joins them, and a 4 x 4 convolution gives the logit. DCGAN's binary cross-entropies are
the logistic losses of training/losses.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn

from networks.interfaces import Discriminator, TextFeatures, Verdict
from networks.layers.dcgan import dcgan_init
from networks.layers.linear import unit_second_moment
from networks.layers.scale_widths import scale_widths


@dataclass(frozen=True, kw_only=True)
class DcganDiscriminatorConfig:
    """Config of DCGAN's discriminator.

    resolution: side of the pictures, a power of two.
    channel_base, channel_max: scale s has min(channel_base / s, channel_max) channels.
    sentence_dim: width of the sentence embedding (`TextFeatures.sentence`); 0 = unconditional.
    feature_dim: width of the features f_D for ConD; 0 = none.
    text_dim: width of the projected sentence embedding.
    """

    kind: ClassVar[str] = "dcgan"

    resolution: int = 256
    channel_base: int = 8192
    channel_max: int = 512
    sentence_dim: int = 512
    feature_dim: int = 0
    text_dim: int = 128

    def __post_init__(self) -> None:
        scale_widths("discriminator", self.resolution, self.channel_base, self.channel_max)

    def with_io(
        self, resolution: int, sentence_dim: int, feature_dim: int
    ) -> DcganDiscriminatorConfig:
        return replace(
            self, resolution=resolution, sentence_dim=sentence_dim, feature_dim=feature_dim
        )

    def build(self) -> DcganDiscriminator:
        return DcganDiscriminator(self)


class DcganDiscriminator(Discriminator):
    """Images [N, 3, R, R] -> `trunk` -> features [N, C * 16] -> `judge` -> logits [N].

    R is `config.resolution`.
    """

    def __init__(self, config: DcganDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = list(
            scale_widths(
                "discriminator", config.resolution, config.channel_base, config.channel_max
            ).values()
        )[1:]
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for before, width in pairwise(widths):
            layers += [
                nn.Conv2d(before, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.channels = widths[-1]
        self.project_text = (
            nn.Sequential(
                nn.Linear(config.sentence_dim, config.text_dim), nn.LeakyReLU(0.2, inplace=True)
            )
            if config.sentence_dim
            else None
        )
        joined = self.channels + (config.text_dim if config.sentence_dim else 0)
        self.join = nn.Sequential(
            nn.Conv2d(joined, self.channels, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(self.channels, 1, 4),
        )
        self.features = (
            nn.Linear(self.channels * 16, config.feature_dim) if config.feature_dim else None
        )
        self.apply(dcgan_init)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images).flatten(1)

    def judge(self, hidden: torch.Tensor, text: TextFeatures | None) -> Verdict:
        # Autocast would round the logits to bf16, which has 8 bits of precision.
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            x = hidden.unflatten(1, (self.channels, 4, 4))
            if self.project_text is not None:
                assert text is not None
                sentence = self.project_text(unit_second_moment(text.sentence.float()))
                x = torch.cat([x, sentence[:, :, None, None].expand(-1, -1, 4, 4)], dim=1)
            return Verdict(
                self.join(x).flatten(), self.features(hidden) if self.features is not None else None
            )
