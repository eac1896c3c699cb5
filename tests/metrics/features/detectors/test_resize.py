"""Resize modes against their origins: Pillow in float, TensorFlow's formula by hand,
torch-fidelity's code.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.features.detectors.resize import resize


def pictures(height, width, count=2):
    return torch.randint(
        0,
        256,
        (count, 3, height, width),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("size", [(64, 64), (20, 33), (120, 90)])
def test_clean_is_pillow_bicubic_per_channel_in_float(size):
    images = pictures(*size)
    ours = resize(images, 48, "clean").numpy()
    for n in range(2):
        for c in range(3):
            plane = Image.fromarray(images[n, c].numpy().astype(np.float32))
            theirs = np.asarray(plane.resize((48, 48), Image.Resampling.BICUBIC)).clip(0, 255)
            assert abs(ours[n, c] - theirs).max() < 1e-3 * 255


@pytest.mark.parametrize("length, size", [(8, 5), (5, 8), (7, 7), (16, 4)])
def test_legacy_tensorflow_by_hand(length, size):
    images = pictures(length, length)
    ours = resize(images, size, "legacy_tensorflow").numpy()
    row = images[0, 0].numpy().astype(np.float64)

    def at(position):
        low = int(position)
        return low, min(low + 1, length - 1), position - low

    for i in range(size):
        for j in range(size):
            top, bottom, v = at(i * length / size)
            left, right, h = at(j * length / size)
            expected = (row[top, left] * (1 - h) + row[top, right] * h) * (1 - v) + (
                row[bottom, left] * (1 - h) + row[bottom, right] * h
            ) * v
            assert ours[0, 0, i, j] == pytest.approx(expected, abs=2e-4)


def test_legacy_tensorflow_equals_torch_fidelity():
    theirs = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    for size in ((64, 64), (31, 50), (400, 300)):
        images = pictures(*size)
        expected = theirs.interpolate_bilinear_2d_like_tensorflow1x(
            images.float(), size=(299, 299), align_corners=False
        )
        assert torch.allclose(resize(images, 299, "legacy_tensorflow"), expected, atol=1e-4)


def test_the_three_modes_differ_and_leave_the_right_size_alone():
    images = pictures(64, 64)
    modes = [resize(images, 48, mode) for mode in ("legacy_tensorflow", "legacy_pytorch", "clean")]
    assert all((a - b).abs().max() > 5 for a, b in zip(modes, modes[1:] + modes[:1], strict=True))
    for mode in ("legacy_tensorflow", "legacy_pytorch", "clean"):
        assert torch.equal(resize(images, 64, mode), images.float())
        flat = torch.full((1, 3, 20, 30), 200, dtype=torch.uint8)
        assert torch.allclose(resize(flat, 17, mode), torch.tensor(200.0), atol=1e-3)
