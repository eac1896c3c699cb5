"""DINOv2 (Oquab et al. 2023) class tokens for the Frechet distance of Stein et al. (2023).

Pictures are brought to 224 px by antialiased bicubic, then to ImageNet mean and deviation. The
network is that of timm, which resamples the position table from 518 px without the offset of 0.1
of the authors. So numbers differ from those of dgm-eval; by how much was not measured.
"""

from __future__ import annotations

from pathlib import Path

import torch

from dnnlib.errors import UserError
from metrics.features.detectors import weights_sha256
from metrics.features.detectors.resize import resize
from networks.pretrained.frozen import freeze
from networks.pretrained.hub import weights_file

MODELS = {
    "dinov2": "vit_large_patch14_dinov2",
    "dinov2:base": "vit_base_patch14_dinov2",
    "dinov2:small": "vit_small_patch14_dinov2",
}
INPUT_PX = 224


class Dinov2Detector:
    """`name` is a key of `MODELS`: ViT-L/14 (D = 1024), ViT-B/14 (768) or ViT-S/14 (384)."""

    resize = f"clean: bicubic with antialias, {INPUT_PX} px"

    def __init__(self, name: str, device: torch.device, weights: Path | None = None) -> None:
        import timm

        model = MODELS[name]
        repository = f"timm/{model}.lvd142m"
        overlay = {"file": str(_file(model, repository, weights))}
        try:
            net = timm.create_model(
                model,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
                num_classes=0,
                img_size=INPUT_PX,
            )
        except (RuntimeError, KeyError, OSError, ValueError, AttributeError) as error:
            raise UserError(
                f"{overlay['file']} does not hold {model} ({str(error).splitlines()[0][:100]})"
            ) from None
        self.name = name
        self.device = device
        self.net = freeze(net).to(device)
        self.weights_sha256 = weights_sha256(self.net)
        self._mean, self._std = (
            torch.tensor(values, device=device).view(3, 1, 1) * 255
            for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        pixels = resize(images.to(self.device, non_blocking=True), INPUT_PX, "clean")
        return self.net((pixels - self._mean) / self._std).float()


def _file(model: str, repository: str, weights: Path | None) -> Path:
    """A local file, the one in the hub's cache, or a download. `UserError` says what to fetch."""
    if weights is not None:
        if not weights.is_file():
            raise UserError(f"--weights dinov2={weights}: no such file")
        return weights
    return weights_file(
        repository,
        lambda reason: UserError(
            f"the weights of {model} are not in the local cache and could not be downloaded "
            f"({reason}); fetch model.safetensors of {repository} from huggingface.co and pass "
            "--weights dinov2=FILE"
        ),
    )
