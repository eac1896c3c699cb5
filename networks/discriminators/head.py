"""The last layers that the wavelet and the StyleGAN2 discriminator share.

They are the minibatch standard deviation, a hidden layer, a logit with text projection, and the
features f_D for ConD. Projection (Miyato and Koyama 2018): logit = w.h + <h', V s> / sqrt(C), where
h are the C hidden features, h' is a linear layer of h, and s is the sentence embedding.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from networks.interfaces import TextFeatures, Verdict
from networks.layers.comparison import Comparison
from networks.layers.conv import EqualConv2d
from networks.layers.linear import EqualLinear, unit_second_moment
from networks.layers.minibatch_stddev import minibatch_stddev


class TextProjectionHead(nn.Module):
    """Features [N, C, 4, 4] -> `trunk` -> hidden [N, C] -> `judge`, with text -> Verdict.

    sentence_dim: width of the sentence embedding; 0 = no text projection.
    feature_dim: width of f_D, which must be the width of the image embedding that ConD compares
        f_D with; 0 = no f_D.
    group_size: samples of a group, for the minibatch standard deviation and the comparisons.
    kernels: number of comparisons of the samples of a group (`Comparison`); 0 = none.
    """

    def __init__(
        self,
        channels: int,
        *,
        sentence_dim: int,
        feature_dim: int,
        group_size: int,
        kernels: int = 0,
    ) -> None:
        super().__init__()
        self.group_size = group_size
        self.conv = EqualConv2d(channels + 1, channels, 3)
        self.hidden = EqualLinear(channels * 16, channels, activate=True)
        self.logit = EqualLinear(channels, 1)
        self.project_image = EqualLinear(channels, channels) if sentence_dim else None
        self.project_text = EqualLinear(sentence_dim, channels) if sentence_dim else None
        self.features = EqualLinear(channels, feature_dim) if feature_dim else None
        self.compare = Comparison(channels, kernels, group_size) if kernels else None

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        return self.hidden(self.conv(minibatch_stddev(x, self.group_size)).flatten(1))

    def judge(self, hidden: torch.Tensor, text: TextFeatures | None) -> Verdict:
        # Autocast would round the logits to bf16, which has 8 bits of precision.
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            logits = self.logit(hidden).squeeze(1)
            if self.project_text is not None and self.project_image is not None:
                assert text is not None
                sentence = self.project_text(unit_second_moment(text.sentence.float()))
                projection = (self.project_image(hidden) * sentence).sum(dim=1)
                logits = logits + projection / math.sqrt(hidden.shape[1])
            if self.compare is not None:
                logits = logits + self.compare(hidden).squeeze(1)
            return Verdict(logits, self.features(hidden) if self.features is not None else None)
