from __future__ import annotations

import pytest
import torch

from dnnlib.errors import UserError
from networks.discriminators import DISCRIMINATORS
from networks.discriminators.wavelet import SpectralBlock, WaveletDiscriminatorConfig
from networks.interfaces import TextFeatures
from tests.networks.sizes import SMALL_FROZEN


def build(kind, **fields):
    torch.manual_seed(0)
    fields = {"resolution": 32, "sentence_dim": 12, "feature_dim": 10} | fields
    frozen = kind == "frozen_features"
    fields = (SMALL_FROZEN if frozen else {"channel_base": 128, "channel_max": 32}) | fields
    if kind != "dcgan":
        fields.setdefault("group_size", 2)
    if kind == "wavelet":
        fields = {"spectral_scale": 8, "kernels": 3} | fields
    return DISCRIMINATORS[kind](**fields).build()


def inputs(n=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 32, 32, generator=g), TextFeatures(
        torch.randn(n, 12, generator=g),
        torch.randn(n, 3, 5, generator=g),
        torch.ones(n, 3, dtype=torch.bool),
    )


# Two scales of a picture at 32 px, and the pixels.
LOGITS = {"frozen_features": (4, 2 * 2 + 1 * 1 + 4 * 4)}


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_verdict_shapes_and_gradients_of_every_parameter(kind):
    discriminator = build(kind)
    images, text = inputs()
    verdict = discriminator(images, text)
    assert verdict.logits.shape == LOGITS.get(kind, (4,)) and verdict.features.shape == (4, 10)
    (verdict.logits.sum() + verdict.features.square().sum()).backward()
    without = [
        n
        for n, p in discriminator.named_parameters()
        if p.grad is None or not p.grad.abs().max() > 0
    ]
    assert not without


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_text_matters_and_can_be_left_out(kind):
    discriminator = build(kind)
    images, text = inputs()
    assert (
        discriminator(images, text).logits - discriminator(images, text.roll(1)).logits
    ).abs().max() > 1e-3
    plain = build(kind, sentence_dim=0, feature_dim=0)
    verdict = plain(images, None)
    assert verdict.logits.shape == LOGITS.get(kind, (4,)) and verdict.features is None


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_one_trunk_pass_serves_several_texts(kind):
    discriminator = build(kind)
    images, text = inputs()
    hidden = discriminator.read(discriminator.sense(images))
    assert torch.equal(
        discriminator.judge(hidden, text.roll(1)).logits, discriminator(images, text.roll(1)).logits
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_second_derivatives_reach_every_parameter_that_sees_the_picture(kind):
    discriminator = build(kind, feature_dim=0)
    images, text = inputs()
    images.requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        discriminator(images, text).logits.sum(), images, create_graph=True
    )
    gradient.square().sum().backward()
    # In dcgan the text is added, so the gradient in the picture does not depend on its weight.
    weights = [
        (n, p)
        for n, p in discriminator.named_parameters()
        if ("weight" in n or "spectrum" in n) and (kind, n) != ("dcgan", "project_text.0.weight")
    ]
    assert not [n for n, p in weights if p.grad is None or not p.grad.abs().max() > 0]


def test_every_scale_of_the_wavelet_discriminator_sees_the_picture():
    discriminator = build("wavelet")
    assert [len(discriminator.from_wavelet), len(discriminator.blocks)] == [3, 3]
    images, text = inputs()
    before = discriminator(images, text).logits
    for layer in discriminator.from_wavelet:
        kept = layer.weight.data.clone()
        layer.weight.data.zero_()
        assert (discriminator(images, text).logits - before).abs().max() > 1e-4
        layer.weight.data.copy_(kept)


def test_spectral_block_equals_fft_over_channels():
    torch.manual_seed(0)
    block = SpectralBlock(8)
    block.spectrum.data = torch.randn_like(block.spectrum)
    x = torch.randn(2, 8, 3, 3)
    filtered = torch.fft.irfft(
        torch.view_as_complex(block.spectrum)[:, None, None] * torch.fft.rfft(x, dim=1), n=8, dim=1
    )
    y = torch.einsum("nchw,oc->nohw", filtered, block.weight) * (2**0.5 / 8**0.5)
    expected = (x + torch.where(y > 0, y, 0.2 * y)) * 0.5**0.5
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_bad_sizes_are_refused():
    with pytest.raises(UserError, match="power of two"):
        WaveletDiscriminatorConfig(resolution=48)
    with pytest.raises(UserError, match="spectral_scale"):
        WaveletDiscriminatorConfig(resolution=32, spectral_scale=64)
