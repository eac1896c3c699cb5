"""Every detector on a GPU: features on the device; only the end of a pass waits."""

from __future__ import annotations

from typing import Any, cast

import open_clip
import pytest
import timm
import torch

from metrics.features.detectors import KNOWN, dinov2, inception, load_detector
from metrics.features.detectors.dual_encoder import DualEncoderDetector
from metrics.features.detectors.resize import DESCRIPTIONS, resize
from metrics.features.extraction import extract
from metrics.features.moments import MomentSums
from metrics.features.wants import VECTORS
from networks.pretrained.inception import FidInception
from networks.text_encoders.open_clip_encoder import OpenClipEncoder
from tests.fake_gpu.device import CUDA, DeviceFault, fake_gpu
from tests.fake_gpu.towers import tiny_clip

WIDTHS = {
    "pixels": 3 * 40 * 40,
    "toy": 64,
    "lite2": 1280,
    "lite2:fine": 1280,
    "inception": 2048,
    "dinov2:small": 384,
}


def pictures(size):
    return torch.zeros(2, 3, size, size, dtype=torch.uint8).pin_memory()


@pytest.fixture
def no_files(monkeypatch):
    """Random networks in place of files that are not here."""
    create = timm.create_model
    monkeypatch.setattr(inception, "find_weights", lambda: None)
    monkeypatch.setattr(inception, "sha256_of", lambda path: "")
    monkeypatch.setattr(FidInception, "load", lambda path: FidInception())
    monkeypatch.setattr(dinov2, "_file", lambda *where: None)
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, *, pretrained, pretrained_cfg_overlay=None, **options: create(
            name, pretrained=False, **options | ({"depth": 2} if "dinov2" in name else {})
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDTHS)
def test_detectors_wait_for_nothing(name, no_files):
    with fake_gpu() as gpu:
        detector = load_detector(name, CUDA)
        with gpu.rules():
            features = detector(pictures(40))
        assert (
            features.shape == (2, WIDTHS[name])
            and features.device == CUDA
            and features.dtype == (torch.uint8 if name == "pixels" else torch.float32)
        )
        assert not features.requires_grad
        if name == "lite2":  # its like is in a training loss
            images = torch.zeros(2, 3, 64, 64, device=CUDA, requires_grad=True)
            with gpu.rules():
                cast(Any, detector).net(images).sum().backward()
            assert images.grad.device == CUDA


@pytest.mark.parametrize("mode", DESCRIPTIONS)
def test_pictures_are_resized_on_the_device(mode):
    with fake_gpu() as gpu:
        images = pictures(40).to(CUDA, non_blocking=True)
        with gpu.rules():
            resized = resize(images, 299, mode)
    assert (
        resized.shape == (2, 3, 299, 299)
        and resized.device == CUDA
        and resized.dtype == torch.float32
    )


def test_both_towers_of_a_dual_encoder():
    with fake_gpu() as gpu:
        detector = DualEncoderDetector(
            "tiny", OpenClipEncoder(tiny_clip(), open_clip.tokenize, "tiny", CUDA), CUDA
        )
        with gpu.rules():
            features = detector(pictures(40))
        assert (
            features.shape == (2, 24)
            and features.device == CUDA
            and features.dtype == torch.float32
        )
        assert detector.text(["a cat"]).device.type == "cpu"


def test_every_family_of_detectors_is_here():
    families = {name.partition(":")[0] for name in KNOWN}
    # An embedded encoder is a dual encoder on lite0 or lite2.
    assert families == {name.partition(":")[0] for name in WIDTHS} | {
        "small",
        "small-heldout",
        "open_clip",
    }


def test_moments_are_summed_in_float64_where_the_features_are():
    with fake_gpu() as gpu:
        sums = MomentSums()
        for _ in range(2):
            sums.add(torch.zeros(4, 8, device=CUDA))
        assert sums._sums is not None
        vectors, products = sums._sums
        assert vectors.device == products.device == CUDA and products.dtype == torch.float64
        with (
            pytest.raises(DeviceFault, match="metrics/features/moments.py:.*copies to the CPU"),
            gpu.rules(),
        ):
            sums.sums()


def test_features_are_collected_at_the_end_only():
    """A pass waits when all pictures are through, not for every batch."""
    with fake_gpu() as gpu:
        detector, passed = load_detector("toy", CUDA), []

        def batches(share):
            with gpu.rules():
                for index in share:
                    yield pictures(16)
                    passed.append(index)

        found = extract(6, lambda share: batches(range(3)), {"toy": detector}, {"toy": VECTORS})
    assert passed == [0, 1, 2] and found["toy"].vectors.shape == (6, 64)
