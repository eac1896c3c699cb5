"""Similarity of pictures: PSNR, SSIM (Wang et al. 2004), MS-SSIM (Wang et al. 2003).

Beside them are the exact area average and the bicubic enlargement that bring two pictures to one
size. Pictures are float64 [N, 3, H, W] in [0, 1].
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from dnnlib.errors import UserError

# Identical pictures have no finite PSNR; a result record needs a number.
MAX_PSNR_DB = 100.0

_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first
MS_SSIM_MIN_PX = _SSIM_WINDOW * 2 ** (len(_MS_WEIGHTS) - 1)


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """Network pictures (nominally [-1, 1]) -> float64 in [0, 1], clamped as any viewer would."""
    return images.to(torch.float64).add(1).div(2).clamp(0, 1)


def shrink(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Exact area average of factor x factor blocks; the sides must be multiples of factor."""
    assert images.shape[-1] % factor == 0 and images.shape[-2] % factor == 0
    return F.avg_pool2d(images, factor)


def enlarge(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Bicubic enlargement with pixel centres aligned, clamped to [0, 1]."""
    large = F.interpolate(images, scale_factor=factor, mode="bicubic", align_corners=False)
    return large.clamp(0, 1)


def psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """10 log10(1 / MSE) per picture, in dB, at most `MAX_PSNR_DB`.  # [N]"""
    mse = (a - b).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(mse.clamp_min(10 ** (-MAX_PSNR_DB / 10)))


def ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean structural similarity per picture, channels averaged.  # [N]

    Gaussian window 11 x 11, sigma 1.5, whole windows only, weighted population variances. Raises
    `UserError` for sides below 11 px.
    """
    if min(a.shape[-2:]) < _SSIM_WINDOW:
        size = f"{a.shape[-1]}x{a.shape[-2]}"
        raise UserError(
            f"SSIM needs pictures of at least {_SSIM_WINDOW} px a side, these are {size}"
        )
    luminance, structure = _similarity(a, b)
    return (luminance * structure).mean(dim=(1, 2, 3))


def ms_ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multi-scale SSIM over five octaves per picture, channels averaged.  # [N]

    Both sides have at least `MS_SSIM_MIN_PX` pixels. Each scale is the 2 x 2 mean of the one
    before. A negative mean structure term has no real power and counts as 0.
    """
    assert min(a.shape[-2:]) >= MS_SSIM_MIN_PX
    product = torch.ones(a.shape[:2], dtype=a.dtype, device=a.device)  # [N, C]
    for scale, weight in enumerate(_MS_WEIGHTS):
        luminance, structure = _similarity(a, b)
        last = scale == len(_MS_WEIGHTS) - 1
        term = (luminance * structure if last else structure).mean(dim=(2, 3))
        product = product * term.clamp_min(0) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return product.mean(dim=1)


def _similarity(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Luminance and contrast-structure terms of every window."""
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a**2
    var_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _SSIM_C1) / (mean_a**2 + mean_b**2 + _SSIM_C1)
    return luminance, (2 * covariance + _SSIM_C2) / (var_a + var_b + _SSIM_C2)


def _blur(x: torch.Tensor) -> torch.Tensor:
    offset = torch.arange(_SSIM_WINDOW, dtype=x.dtype, device=x.device) - _SSIM_WINDOW // 2
    window = torch.exp(-(offset**2) / (2 * _SSIM_SIGMA**2))
    window = (window / window.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.conv2d(x, window, groups=x.shape[1])
    return F.conv2d(x, window.transpose(2, 3), groups=x.shape[1])
