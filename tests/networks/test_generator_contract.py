"""The contract of `Generator`, tested for every preset (tiny presets replace the large ones)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch

from configs.systems import nodual
from dnnlib.errors import UserError
from networks.coordinates import View
from networks.describe import describe
from networks.generators import GENERATORS, PRESETS, QuantizedConfig, preset
from networks.generators.biline import RefinementBlock
from networks.interfaces import TextFeatures, ViewError
from networks.sampling import render_tiled, truncate
from networks.snapshot import Snapshot

TINY = {kind: preset(f"{kind}-tiny") for kind in GENERATORS}
SIDE = 32  # resolution of the tiny presets that have one
NATIVE = {"stylegan2", "vqcgan"}  # draw the whole frame at their own size only
VARIANTS = (
    TINY
    | {
        "eidgan-nospectral": replace(preset("eidgan-tiny"), spectral=False),
        "eidgan-noattention": replace(preset("eidgan-tiny"), attention=False, word_dim=0),
        "eidgan-noattention-words": replace(preset("eidgan-tiny"), attention=False),
        "eidgan-nodual": nodual(preset("creps-tiny")),
        "eidgan-lines": replace(preset("eidgan-tiny"), styled_lines=True, summed_lines=True),
        "eidgan-place": replace(preset("eidgan-tiny"), place=True),
        "eidgan-place-lines": replace(preset("eidgan-tiny"), place=True, styled_lines=True),
        "eidgan-uncond": replace(preset("eidgan-tiny"), sentence_dim=0, word_dim=0),
        "eidgan-sentence": replace(preset("eidgan-tiny"), word_dim=0),
        "eidgan-words": replace(preset("eidgan-tiny"), sentence_dim=0),
        "vqcgan-uncond": replace(preset("vqcgan-tiny"), sentence_dim=0, word_dim=0),
        "vqcgan-sentence": replace(preset("vqcgan-tiny"), word_dim=0),
        "vqcgan-words": replace(preset("vqcgan-tiny"), sentence_dim=0),
        "inrgan-sigmoid": replace(preset("inrgan-tiny"), modulation="sigmoid"),
    }
    | {f"{kind}-samples": replace(TINY[kind], samples=2) for kind in ("eidgan", "creps")}
    | {
        f"{kind}-uncond": replace(config, sentence_dim=0)
        for kind, config in TINY.items()
        if not config.word_dim
    }
)
ANY_SCALE = [name for name, config in VARIANTS.items() if config.kind not in NATIVE]


def view_for(config, side=8):
    return View.square(SIDE if config.kind in NATIVE else side)


def text_for(config, n, seed=0):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.arange(n) % 4 + 3
    return TextFeatures(
        torch.randn(n, config.sentence_dim or 8, generator=g),
        torch.randn(n, 6, config.word_dim or 8, generator=g),
        torch.arange(6) < lengths[:, None],
    )


def build(name, seed=0):
    torch.manual_seed(seed)
    config = VARIANTS[name]
    generator = config.build()
    norms = [module for module in generator.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if norms:  # running statistics of one batch, so that pictures have contrast in eval mode
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            generator(latents(generator, 8), text_for(config, 8), view_for(config))
        for norm in norms:
            norm.momentum = 0.1
    return config, generator.eval()


def latents(generator, n, seed=1):
    return torch.randn(n, *generator.latent_shape, generator=torch.Generator().manual_seed(seed))


def test_creps_reads_end_points_where_it_was_trained_so():
    config = replace(preset("creps-tiny"), convention="endpoints")
    torch.manual_seed(0)
    generator = config.build()
    z, text = latents(generator, 2), text_for(config, 2)
    asked = View(height=16, width=9, convention="endpoints")
    assert torch.equal(generator(z, text, View(height=16, width=9)), generator(z, text, asked))
    with pytest.raises(UserError, match="endpoints"):
        generator(z, text, View(height=1, width=9))


def test_every_kind_has_a_stand_in():
    assert set(TINY) == set(GENERATORS)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_shapes_finiteness_and_determinism(name):
    config, generator = build(name)
    z, text = latents(generator, 3), text_for(config, 3)
    any_scale = (
        View.square(16),
        View(height=5, width=9),
        View(height=1, width=1),
        View(height=7, width=4, box=(-1, 0.2, 2, 0.6)),
    )
    for view in any_scale if name in ANY_SCALE else (View.square(SIDE),):
        image = generator(z, text, view)
        assert image.shape == (3, 3, view.height, view.width) and image.dtype == torch.float32
        assert torch.isfinite(image).all()
        assert torch.equal(image, generator(z, text, view))


@pytest.mark.parametrize(
    "view",
    [
        View.square(SIDE * 2),
        View.square(SIDE // 2),
        View(height=SIDE, width=SIDE + 1),
        View(height=SIDE, width=SIDE, box=(0, 0, 0.5, 1)),
        View(height=SIDE, width=SIDE, convention="endpoints"),
    ],
    ids=["twice", "half", "wide", "window", "endpoints"],
)
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ANY_SCALE])
def test_a_native_system_refuses_other_views_by_type(name, view):
    config, generator = build(name)
    with pytest.raises(
        ViewError, match=f"{config.kind} network draws {SIDE}x{SIDE} of the whole frame only"
    ):
        generator(latents(generator, 1), text_for(config, 1), view)


def test_the_refused_window_is_named_in_four_digits():
    config, generator = build("stylegan2")
    view = View(height=SIDE, width=SIDE, box=(0.10192928043019789, -0.5, 1.1, 0.5))
    with pytest.raises(ViewError, match="of window 0.1019,-0.5,1.1,0.5 "):
        generator(latents(generator, 1), text_for(config, 1), view)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_config_says_how_wide_the_discriminator_s_text_is(name):
    config, generator = build(name)
    text = text_for(config, 2)
    width = generator.condition(text).sentence.shape[1] if generator.reads_text else 0
    assert config.condition_dim(text.sentence.shape[1]) == width


def test_a_code_book_before_a_system_leaves_the_system_s_condition():
    """VQ-CGAN's discriminator reads codes, also in a `QuantizedGenerator`."""
    quantizer = preset("quantized-tiny").quantizer
    config = QuantizedConfig(
        generator=replace(preset("vqcgan-tiny"), quantizer=quantizer), quantizer=quantizer
    )
    sentence = config.build().condition(text_for(config, 2)).sentence
    assert config.condition_dim(64) == sentence.shape[1] == 32


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_gets_a_gradient(name):
    config, generator = build(name)
    image = generator.train()(latents(generator, 3), text_for(config, 3), view_for(config))
    (image * torch.randn_like(image)).sum().backward()
    without = [
        n for n, p in generator.named_parameters() if p.grad is None or not p.grad.abs().max() > 0
    ]
    assert not without


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_latents_and_texts_matter_exactly_where_they_enter(name):
    config, generator = build(name)
    z, text, other = latents(generator, 2), text_for(config, 2), text_for(config, 2, seed=5)
    view = view_for(config)
    image = generator(z, text, view)
    assert (generator(latents(generator, 2, seed=9), text, view) - image).abs().max() > 1e-3
    for field, enters in (("sentence", config.sentence_dim), ("words", config.word_dim)):
        changed = generator(z, replace(text, **{field: getattr(other, field)}), view)
        assert ((changed - image).abs().max() > 1e-4) == bool(enters)


@pytest.mark.slow
@pytest.mark.parametrize("name", ANY_SCALE)
@pytest.mark.parametrize(
    "view",
    [
        View(height=17, width=23),
        View(height=11, width=15, box=(0.2, 0.3, 0.7, 0.9)),
        View(height=12, width=9, box=(-0.5, -0.25, 1.5, 1.25)),
        View(height=8, width=8, convention="endpoints"),
    ],
    ids=["whole", "window", "extrapolated", "endpoints"],
)
def test_tiles_equal_the_whole(name, view):
    config, generator = build(name)
    with torch.no_grad():
        codes = generator.mapping(latents(generator, 2), text_for(config, 2))
        whole = render_tiled(generator, codes, view, tile_px=1 << 20)
        for tile_px in (200, 40, 7):
            assert (
                render_tiled(generator, codes, view, tile_px=tile_px) - whole
            ).abs().max() < 1e-5


@pytest.mark.slow
def test_tiles_stay_equal_when_features_have_grown():
    """Training makes features 100 times larger; rounding differences of tiles must not grow too."""
    config, generator = build("eidgan")
    view = View(height=17, width=23)
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            if "to_lines" in name or "decoders" in name:
                weight.mul_(3)
        codes = generator.mapping(latents(generator, 4), text_for(config, 4))
        whole = render_tiled(generator, codes, view, tile_px=1 << 20)
        assert whole.abs().max() < 10
        assert (
            max(
                (render_tiled(generator, codes, view, tile_px=px) - whole).abs().max()
                for px in (200, 40, 7)
            )
            < 5e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eidgan", "creps"])
def test_tiles_share_folded_weights_and_no_change_of_a_parameter_is_missed(name, monkeypatch):
    """A prepared view folds the weights once and holds them; no other object keeps them."""
    config, generator = build(name)
    calls = mock.Mock(side_effect=RefinementBlock.folded)
    monkeypatch.setattr(RefinementBlock, "folded", lambda *arguments: calls(*arguments))
    view = View(height=9, width=13)
    with torch.no_grad():
        codes = generator.mapping(latents(generator, 2), text_for(config, 2))
        before = render_tiled(generator, codes, view, tile_px=40)
        assert calls.call_count == 1
        for parameter in generator.pixels.parameters():
            parameter.add_(0.1)
            after = render_tiled(generator, codes, view, tile_px=40)
            assert (after - before).abs().max() > 1e-6
            before = after
        fresh = render_tiled(copy.deepcopy(generator), codes, view, tile_px=40)
    assert torch.equal(fresh, before)


@pytest.mark.parametrize("name", ANY_SCALE)
def test_a_window_shows_what_the_whole_shows_there(name):
    config, generator = build(name)
    with torch.no_grad():
        codes = generator.mapping(latents(generator, 2), text_for(config, 2))
        whole = generator.synthesis(codes, View.square(32))
        part = generator.synthesis(codes, View(height=8, width=16, box=(0.25, 0.5, 0.75, 0.75)))
    assert (part - whole[:, :, 16:24, 8:24]).abs().max() < 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_samples_do_not_see_each_other_nor_masked_words(name):
    config, generator = build(name)
    z, text, view = latents(generator, 3), text_for(config, 3), view_for(config)
    whole = generator(z, text, view)
    assert (generator(z[1:2], text[1:2], view) - whole[1:2]).abs().max() < 1e-4
    padded = TextFeatures.cat(
        [
            text,
            TextFeatures(
                text.sentence[:1],
                torch.randn(1, 9, text.words.shape[2]),
                torch.ones(1, 9, dtype=torch.bool),
            ),
        ]
    )[:3]
    assert (generator(z, padded, view) - whole).abs().max() < 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_truncation_meets_its_centre(name):
    config, generator = build(name)
    text = text_for(config, 2)
    with torch.no_grad():
        codes = generator.mapping(latents(generator, 2), text)
        other = generator.mapping(latents(generator, 2, seed=8), text)
        assert torch.equal(
            truncate(generator, codes, text, 0.0).tokens,
            truncate(generator, other, text, 0.0).tokens,
        )
        torch.testing.assert_close(truncate(generator, codes, text, 1.0).tokens, codes.tokens)
        generator.tokens_mean.fill_(2.0)
        half = truncate(generator, codes, text, 0.5, "global").tokens
        torch.testing.assert_close(half, (codes.tokens + 2) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_snapshot_round_trip(name, tmp_path):
    config, generator = build(name)
    Snapshot(generator, "hashed", 16, {"recipe": name}).save_pretrained(tmp_path / "s")
    loaded = Snapshot.from_pretrained(tmp_path / "s")
    assert (
        loaded.generator.config == config
        and loaded.text_encoder == "hashed"
        and loaded.info == {"recipe": name}
    )
    z, text, view = latents(generator, 2), text_for(config, 2), view_for(config)
    assert torch.equal(loaded.generator(z, text, view), generator(z, text, view))
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_twenty_steps_lower_the_loss_on_eight_pictures(name):
    config, generator = build(name)
    generator.train()
    view = view_for(config)
    target = (
        torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(3)).expand(
            -1, -1, view.height, view.width
        )
        * 2
        - 1
    )
    z, text = latents(generator, 8), text_for(config, 8)
    optimizer = torch.optim.Adam(generator.parameters(), lr=0.003, betas=(0.0, 0.99))
    losses = []
    for _ in range(20):
        loss = (generator(z, text, view) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        generator.end_step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_describe_counts_what_runs():
    config: Any = preset("eidgan-tiny")
    counts = describe(config, View.square(16))
    generator = config.build()
    assert counts["params"] == sum(p.numel() for p in generator.parameters())
    assert counts["macs"] == counts["macs_lines"] + counts["macs_pixels"]
    decoders = sum(
        layer.weight.numel() for decoder in generator.pixels.decoders for layer in decoder.layers
    )
    refinement = generator.pixels.refinement
    layers = [
        p.numel()
        for n, p in refinement.named_parameters()
        if n.endswith("weight") and "affine" not in n
    ]
    # The affine layers of the styles run once for each sample.
    styles = sum(p.numel() for n, p in refinement.named_parameters() if n.endswith("affine.weight"))
    composition = len(config.channels) * config.thickness * config.features
    assert counts["macs_pixels"] == 16 * 16 * (decoders + sum(layers) + composition) + styles
    double = describe(config, View.square(32))
    assert double["macs_pixels"] - styles == 4 * (counts["macs_pixels"] - styles)
    assert double["activation_bytes"] > 2 * counts["activation_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_describe_counts_every_parameter(name):
    config, generator = build(name)
    counts = describe(config, view_for(config))
    assert counts["params"] == sum(p.numel() for p in generator.parameters())
    assert (
        counts["macs"] == counts["macs_lines"] + counts["macs_pixels"] > 0
        and counts["activation_bytes"] > 0
    )


# Millions of parameters at 256 x 256. EIDGAN: table 1 of the paper ("+ CLIP" with its sentences).
# Other systems: the released networks.
PUBLISHED = {
    "eidgan": 18,
    "creps": 30.5,
    "creps-narrow": 13.1,
    "crepsclip": 31,
    "inrganclip": 73,
    "cips": 44.3,
    "stylegan2": 30.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_published(name):
    config = PRESETS[name] if name in PRESETS else replace(PRESETS[f"{name}clip"], sentence_dim=0)
    millions = describe(config, View.square(256))["params"] / 1e6
    assert millions == pytest.approx(PUBLISHED[name], rel=0.05)
