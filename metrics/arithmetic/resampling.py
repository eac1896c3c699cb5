"""Pictures resampled at other places: translation and rotation of the image plane.

The operators T_x, R_alpha and R*_alpha of StyleGAN3 (Karras et al. 2021, appendix E). Beyond the
paper, the taps of the rotation filter are divided by their sum, so that flat colours stay as they
are. Pictures are float64 [C, S, S]. The pixel of row i and column j lies at (x, y) = (j, i);
offsets and places are in pixels, x to the right and y down.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.signal import fftconvolve
from torch.nn import functional

LANCZOS = 3  # a, half the width of the window in pixels
PHASES = 4  # m, the factor of the enlargement that bilinear look-ups read
_SLICES = 256  # of the integral over the spectrum of a rotation


def shifted(image: torch.Tensor, offset: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """T_x for whole pixels: the picture moved by `offset`, and which pixels are valid, bool [S, S].

    Pixels that come from outside the picture are 0 and not valid.
    """
    side, (right, down) = image.shape[-1], offset
    rows, columns = (slice(max(by, 0), side + min(by, 0)) for by in (down, right))
    sources = (slice(max(-by, 0), side + min(-by, 0)) for by in (down, right))
    moved, valid = torch.zeros_like(image), torch.zeros(side, side, dtype=torch.bool)
    moved[:, rows, columns] = image[(slice(None), *sources)]
    valid[rows, columns] = True
    return moved, valid


def lanczos_shifted(
    image: torch.Tensor, offset: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """T_x for any offset, and the pixels whose taps all lie in the picture, bool [S, S].

    The filter of each axis is sinc(u) sinc(u / a), |u| < a = 3, at the places of the taps, and its
    taps are divided by their sum.
    """
    matrices, insides = [], []
    for by in offset:
        places = torch.arange(image.shape[-1], dtype=torch.float64)
        away = places[:, None] - by - places  # [to, from]
        taps = away.sinc() * (away / LANCZOS).sinc() * (away.abs() < LANCZOS)
        matrices.append(taps / taps.sum(dim=1, keepdim=True).clamp_min(0.5))
        source = places - by
        insides.append((source >= LANCZOS) & (source <= len(places) - 1 - LANCZOS))
    moved = torch.einsum("xj,yi,cij->cyx", *matrices, image)
    return moved, insides[1][:, None] & insides[0]


def rotated(image: torch.Tensor, degrees: float) -> tuple[torch.Tensor, torch.Tensor]:
    """R_alpha: the picture rotated counter-clockwise, and the valid pixels, bool [S, S].

    It turns about its middle, as in `networks.coordinates.View.transformed`. The picture is
    enlarged by m = 4 with the filter h_R and then read bilinearly. A pixel is valid if its filter
    lies in the picture; the others hold nothing of use.
    """
    turn, m, side = _turn(degrees), PHASES, image.shape[-1]
    reach = filter_reach(turn)
    fine = np.pad(rotation_filter(turn.T), (0, m - 1))
    taps = [
        fine[row::m, column::m][: 2 * reach + 1, : 2 * reach + 1][::-1, ::-1]
        for row in range(m)
        for column in range(m)
    ]
    bank = torch.from_numpy(np.stack([one / one.sum() for one in taps]))[:, None]
    # Pixel (i - reach) m + r of the enlargement lies at i + r / m.
    large = functional.pixel_shuffle(functional.conv2d(image[:, None], bank), m)
    offsets = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    pixels = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"))  # x, y
    places = torch.einsum("ab,bij->ija", torch.from_numpy(turn), pixels) + (side - 1) / 2
    read = functional.grid_sample(
        large,
        (2 * (places - reach) * m / (large.shape[-1] - 1) - 1).expand(len(large), -1, -1, -1),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    valid = ((places >= reach) & (places <= side - 1 - reach)).all(dim=-1)
    return read[:, 0], valid


def pseudo_rotated(image: torch.Tensor, degrees: float) -> tuple[torch.Tensor, torch.Tensor]:
    """R*_alpha: a picture that lies as `rotated` puts it, limited to the same frequencies.

    The valid pixels, bool [S, S], are those whose filter lies in the picture; the others are 0.
    """
    turn = _turn(degrees)
    reach = filter_reach(turn)
    taps = rotation_filter(turn)[::PHASES, ::PHASES]
    kernel = torch.from_numpy(taps / taps.sum())[None, None]
    inner = functional.conv2d(image[:, None], kernel)[:, 0]
    valid = torch.ones(inner.shape[-2:], dtype=torch.bool)
    return functional.pad(inner, (reach,) * 4), functional.pad(valid, (reach,) * 4)


def _turn(degrees: float) -> np.ndarray:
    """The rotation [2, 2] of (x, y) from a pixel to the place whose content it shows."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def filter_reach(turn: np.ndarray) -> int:
    """The half width of h_R in pixels, rounded up: at most 8."""
    return math.ceil(LANCZOS + LANCZOS * np.abs(turn[0]).sum() - 1e-9)


def rotation_filter(turn: np.ndarray) -> np.ndarray:
    """h_R at steps of 1 / m pixel, over its reach: float64 [2 m reach + 1, 2 m reach + 1].

    turn: a rotation [2, 2]. The spectrum is the intersection of two squares, |f| <= 1/2 and
    |turn f| <= 1/2 in both components (cycles a pixel): the frequencies that two grids of pixels,
    rotated against each other, both hold. The window is the convolution of both grids' Lanczos
    windows, 1 in the middle.
    """
    reach = filter_reach(turn)
    steps = np.arange(-reach * PHASES, reach * PHASES + 1) / PHASES
    return _low_pass(turn, steps) * _window(turn, steps)


def _low_pass(turn: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The ideal filter at rows y and columns x in `steps`: its octagonal spectrum, integrated.

    In slices of f_x, where f_y runs over one interval; the integral over it is a sinc.
    """
    along_x = (np.arange(_SLICES) + 0.5) / _SLICES - 0.5
    low, high = np.full(_SLICES, -0.5), np.full(_SLICES, 0.5)
    for p, q in turn:
        if abs(q) > 1e-9:
            ends = (np.array([[-0.5], [0.5]]) - p * along_x) / q
            low, high = np.maximum(low, ends.min(axis=0)), np.minimum(high, ends.max(axis=0))
    width, middle = np.clip(high - low, 0, None), (high + low) / 2
    part = (width * np.sinc(steps[:, None] * width)).T / _SLICES  # [slices, y]
    x, y = (2 * np.pi * at[:, None] * steps for at in (along_x, middle))
    return (part * np.cos(y)).T @ np.cos(x) - (part * np.sin(y)).T @ np.sin(x)


def _window(turn: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The Lanczos window of one grid convolved with that of the other, at y and x in `steps`."""
    y, x = np.meshgrid(steps, steps, indexing="ij")
    windows = [
        np.prod([np.sinc(at / LANCZOS) * (np.abs(at) < LANCZOS) for at in places], axis=0)
        for places in ((x, y), np.tensordot(turn, np.stack([x, y]), 1))
    ]
    both = fftconvolve(*windows, mode="same")
    return both / both[len(steps) // 2, len(steps) // 2]
