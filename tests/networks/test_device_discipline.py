"""Networks on a GPU: views, truncation, verdicts and frozen networks cause no device sync."""

from __future__ import annotations

import open_clip
import pytest
import torch

from networks.coordinates import View
from networks.discriminators import DISCRIMINATORS
from networks.generators import GENERATORS, preset
from networks.interfaces import TextFeatures
from networks.sampling import truncate
from networks.text_encoders.open_clip_encoder import OpenClipEncoder
from tests.fake_gpu.device import CUDA, fake_gpu
from tests.fake_gpu.towers import tiny_clip
from torch_utils.precision import autocast

NATIVE = {"stylegan2", "vqcgan"}  # draw the whole frame at their own size only
NATIVE_VIEW, EXTRAPOLATED = View.square(32), View(height=24, width=18, box=(-0.5, -0.25, 1.5, 1.25))
VIEWS = {  # these generators branch on the view; other generators treat all views alike
    "inrgan": (
        View(height=8, width=16, box=(0.25, 0.5, 0.75, 0.75)),
        EXTRAPOLATED,
        View(height=16, width=40, convention="endpoints"),
    ),
    "cips": (NATIVE_VIEW, EXTRAPOLATED, View(height=48, width=48, box=(-0.25, -0.25, 1.25, 1.25))),
}


def text_for(config, n):
    mask = torch.arange(6) < torch.tensor([[3], [6]])
    return TextFeatures(
        torch.randn(n, config.sentence_dim or 8), torch.randn(n, 6, config.word_dim or 8), mask[:n]
    ).to(CUDA)


@pytest.mark.slow
@pytest.mark.parametrize("kind", GENERATORS)
def test_views_are_drawn_in_tiles_without_waiting(kind):
    config = preset(f"{kind}-tiny")
    with fake_gpu() as gpu, torch.no_grad():
        generator = config.build().eval().to(CUDA)
        z, text = torch.randn(2, *generator.latent_shape).to(CUDA), text_for(config, 2)
        for view in VIEWS.get(kind, (NATIVE_VIEW if kind in NATIVE else EXTRAPOLATED,)):
            with gpu.rules(), autocast(CUDA, "bf16"):
                prepared = generator.prepare(generator.mapping(z, text), view)
                image = generator.render(
                    prepared, slice(0, view.height), slice(view.width // 2, view.width)
                )
            assert image.shape == (2, 3, view.height, view.width - view.width // 2)
            assert image.device == CUDA and image.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("kind", GENERATORS)
def test_truncation_waits_for_nothing(kind):
    config = preset(f"{kind}-tiny")
    with fake_gpu() as gpu, torch.no_grad():
        generator = config.build().eval().to(CUDA)
        text = text_for(config, 2)
        codes = generator.mapping(torch.randn(2, *generator.latent_shape).to(CUDA), text)
        for center in ("prompt", "global"):
            with gpu.rules():
                pulled = truncate(generator, codes, text, 0.5, center)
            assert pulled.tokens.device == CUDA and pulled.tokens.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_verdicts_are_float32_on_the_device(kind):
    with fake_gpu() as gpu:
        fields = {} if kind == "dcgan" else {"group_size": 2}
        frozen = kind == "frozen_features"
        fields |= {"input_px": 32} if frozen else {"channel_base": 128, "feature_dim": 10}
        discriminator = DISCRIMINATORS[kind](resolution=32, sentence_dim=12, **fields).build()
        discriminator.to(CUDA, memory_format=torch.channels_last)
        images = torch.zeros(4, 3, 32, 32, device=CUDA, requires_grad=True)
        text = TextFeatures(
            torch.randn(4, 12), torch.randn(4, 3, 5), torch.ones(4, 3, dtype=torch.bool)
        ).to(CUDA)
        with gpu.rules(), autocast(CUDA, "bf16"):
            verdict = discriminator(images, text)
            verdict.logits.sum().backward()
        made = [verdict.logits, images.grad, verdict.features]
        for x in made[:2] if frozen else made:
            assert x.dtype == torch.float32 and x.device == CUDA


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_clips_towers_wait_for_nothing(precision):
    """Recipes with CLIP encode captions in the training step, because text_cache is off."""
    with fake_gpu() as gpu:
        encoder = OpenClipEncoder(tiny_clip(), open_clip.tokenize, "tiny", CUDA)
        images = torch.zeros(2, 3, 20, 50, device=CUDA, requires_grad=True)
        with gpu.rules(), autocast(CUDA, precision):
            text = encoder.encode_text(["a cat", "a dog on a mat"])
            embedded = encoder.encode_image(images)
            embedded.sum().backward()
    assert text.mask.shape == (2, 7) and text.words.shape == (2, 7, 32)
    assert all(
        x.device == CUDA and x.dtype == torch.float32
        for x in (text.sentence, text.words, embedded, images.grad)
    )
    assert text.mask.device == CUDA


@pytest.mark.slow
@pytest.mark.parametrize("kind", VIEWS)
def test_a_compiler_sees_one_graph(kind):
    """All branches depend on the view, which is on the host, and none on a tensor."""
    generator = preset(f"{kind}-tiny").build()
    z, sentence = torch.randn(2, *generator.latent_shape), torch.randn(2, 64)
    text = TextFeatures(sentence, torch.zeros(2, 1, 8), torch.ones(2, 1, dtype=torch.bool))
    codes = generator.mapping(z, text)
    with torch.no_grad():
        compiled = torch.compile(generator.synthesis, backend="eager", fullgraph=True)(
            codes, EXTRAPOLATED
        )
        torch.testing.assert_close(compiled, generator.synthesis(codes, EXTRAPOLATED))
