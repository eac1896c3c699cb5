"""Area average, PSNR and SSIM against hand values, closed forms and a window-by-window loop."""

import math

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from metrics.arithmetic.similarity import (
    MAX_PSNR_DB,
    MS_SSIM_MIN_PX,
    enlarge,
    ms_ssim,
    psnr,
    shrink,
    ssim,
    to_unit,
)


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_to_unit_clamps():
    assert to_unit(torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 0.5, 1, 1]


def test_shrink_is_the_block_mean():
    images = noise(2, 3, 8, 12)
    expected = images.reshape(2, 3, 2, 4, 3, 4).mean(dim=(3, 5))
    assert torch.allclose(shrink(images, 4), expected, atol=1e-15)


def test_psnr_by_hand():
    a = torch.full((2, 3, 4, 4), 0.25, dtype=torch.float64)
    b = a.clone()
    b[1] += 0.1
    assert psnr(a, b).tolist() == pytest.approx([MAX_PSNR_DB, 20.0])


def test_ssim_of_identical_pictures_is_one():
    a = noise(2, 3, 16, 20)
    assert ssim(a, a).tolist() == pytest.approx([1, 1])


def test_ssim_of_constants_is_the_luminance_term():
    a, b = (torch.full((1, 3, 13, 13), v, dtype=torch.float64) for v in (0.3, 0.5))
    assert ssim(a, b).item() == pytest.approx((2 * 0.15 + 1e-4) / (0.09 + 0.25 + 1e-4), rel=1e-9)


def test_ssim_equals_the_loop_over_windows():
    a, b = noise(1, 2, 14, 13, seed=1), noise(1, 2, 14, 13, seed=2)
    weights = np.array(
        [[math.exp(-(y * y + x * x) / (2 * 1.5**2)) for x in range(-5, 6)] for y in range(-5, 6)]
    )
    weights /= weights.sum()
    values = []
    for p, q in zip(a[0].numpy(), b[0].numpy(), strict=True):
        for y in range(4):
            for x in range(3):
                u, v = p[y : y + 11, x : x + 11], q[y : y + 11, x : x + 11]
                mu, mv = (weights * u).sum(), (weights * v).sum()
                su, sv = (weights * (u - mu) ** 2).sum(), (weights * (v - mv) ** 2).sum()
                cov = (weights * (u - mu) * (v - mv)).sum()
                values.append(
                    (2 * mu * mv + 1e-4)
                    * (2 * cov + 9e-4)
                    / ((mu**2 + mv**2 + 1e-4) * (su + sv + 9e-4))
                )
    assert ssim(a, b).item() == pytest.approx(np.mean(values), rel=1e-10)


def test_ms_ssim_equals_scipy_scale_by_scale():
    from scipy.ndimage import gaussian_filter

    a = noise(1, 1, 180, 177, seed=1)
    b = (a + 0.4 * noise(1, 1, 180, 177, seed=2)).clamp(0, 1)
    x, y, product = a[0, 0].numpy(), b[0, 0].numpy(), 1.0

    def blur(z):
        return gaussian_filter(z, 1.5, radius=5)[5:-5, 5:-5]

    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        u, v = blur(x), blur(y)
        term = (2 * (blur(x * y) - u * v) + 9e-4) / (
            blur(x * x) - u * u + blur(y * y) - v * v + 9e-4
        )
        if scale == 4:
            term = term * (2 * u * v + 1e-4) / (u * u + v * v + 1e-4)
        product *= term.mean() ** weight
        x, y = (
            z[: len(z) // 2 * 2, : z.shape[1] // 2 * 2].reshape(len(z) // 2, 2, -1, 2).mean((1, 3))
            for z in (x, y)
        )
    assert ms_ssim(a, b).item() == pytest.approx(product, rel=1e-9) and 0.5 < product < 0.99
    assert ms_ssim(a, a).item() == pytest.approx(1) and MS_SSIM_MIN_PX == 176


def test_ssim_names_pictures_that_are_too_small():
    with pytest.raises(UserError, match="11 px"):
        ssim(noise(1, 3, 8, 32), noise(1, 3, 8, 32))


def test_bicubic_is_a_ceiling_not_the_identity():
    smooth = torch.linspace(0, 1, 16, dtype=torch.float64).expand(1, 3, 16, 16)
    rough = noise(1, 3, 16, 16)
    consistency = [psnr(x, shrink(enlarge(x, 2), 2)).item() for x in (smooth, rough)]
    assert consistency[0] > 40 > consistency[1] > 20
