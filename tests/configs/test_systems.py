"""Every recipe starts, trains, resumes and generates, at tiny sizes.

EIDGAN without its modulations is CREPS + CLIP.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import RECIPES, recipe
from configs.systems import BASES, SYSTEMS, nodual
from dnnlib.config_codec import override
from dnnlib.errors import UserError
from networks.coordinates import View
from networks.discriminators import FrozenFeaturesConfig, WaveletDiscriminatorConfig
from networks.generators import EidganConfig, preset
from networks.interfaces import TextFeatures
from networks.sampling import iterate_images
from networks.snapshot import Snapshot
from tests.networks.sizes import SMALL_FROZEN
from training.launch import run
from training.trainer import Trainer


def tiny(config):
    """The recipe in miniature: the same system, switches and loss terms.

    Terms that need an image tower are left out.
    """
    own, small = config.generator, preset(f"{config.generator.kind}-tiny")
    switches = (
        "spectral",
        "attention",
        "bypass",
        "styled_lines",
        "samples",
        "convention",
        "output",
        "modulation",
    )
    fields = {name: getattr(own, name) for name in switches if hasattr(own, name)}
    for name in ("sentence_dim", "word_dim"):
        if not getattr(own, name) and getattr(small, name):
            fields[name] = 0
    if isinstance(own, EidganConfig) and own.num_tokens == 1:
        fields["num_tokens"] = 1
    judge = config.discriminator
    if isinstance(judge, FrozenFeaturesConfig):
        scale = SMALL_FROZEN
    else:
        scale = {"channel_base": 256, "channel_max": 32}
        scale |= {"spectral_scale": 8} if isinstance(judge, WaveletDiscriminatorConfig) else {}
    patch = 16 if config.patches.side else 0
    # Eight images at the smaller size: two of the steps before the run stops and goes on.
    start = {"start_resolution": 16, "start_kimg": 0.008} if config.start_resolution else {}
    return replace(
        config,
        generator=replace(small, **fields),
        resolution=32,
        text_encoder="hashed",
        text_cache=False,
        discriminator=replace(judge, resolution=patch or 32, **scale),
        patches=replace(config.patches, side=patch),
        loss=replace(config.loss, cond=0.0, cong=0.0, r1_interval=2, path_length_interval=2),
        batch=4,
        tick_kimg=0.004,
        snapshot_ticks=3,
        metrics=(),
        workers=0,
        report_to=(),
        device="cpu",
        **start,
    )


@pytest.fixture(autouse=True)
def _in_process(monkeypatch):
    monkeypatch.setattr("faulthandler.enable", lambda: None)  # needs a real stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECIPES if name != "debug"])
def test_a_recipe_trains_three_ticks_resumes_and_generates(name, openmoji32, tmp_path, capsys):
    config = replace(tiny(recipe(name)), data=str(openmoji32))
    if config.init_from is not None:
        start = tmp_path / "start"
        Snapshot(config.generator.build(), "hashed", 32).save_pretrained(start)
        config = replace(config, init_from=str(start))
    run_dir = tmp_path / "run"
    assert run(replace(config, kimg=0.012), run_dir)
    assert run(replace(config, kimg=0.016), run_dir)
    assert "Resumed from training-state-000000.pt at 12 images" in capsys.readouterr().out
    ticks = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    assert [tick["images"] for tick in ticks] == [4, 8, 12, 16] and ticks[-1]["skipped"] == 0
    wanted = (
        {"Loss/G", "Loss/D", "Gradient/G", "Gradient/D"}
        | ({"Loss/R1"} if config.loss.r1_gamma else set())
        | ({"Loss/path_length"} if config.loss.path_length else set())
        | ({"Loss/teacher"} if config.loss.teacher else set())
        | ({"Codebook/perplexity"} if "vqcgan" in name else set())
    )
    assert wanted <= set().union(*ticks)
    snapshot = Snapshot.from_pretrained(run_dir)
    pictures = list(
        iterate_images(
            snapshot.generator,
            snapshot.load_encoder(),
            ["a red apple"] * 2,
            [0, 1],
            View.square(32),
        )
    )
    assert all(picture.image.isfinite().all() for picture in pictures)
    assert (pictures[0].image - pictures[1].image).abs().max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "system", ["eidgan", "crepsclip", "inrganclip", "cipsclip", "stylegan2clip", "vqcgan"]
)
def test_every_system_trains_without_text(system):
    """No encoder is there, and captions are ignored."""
    base = recipe(f"{system}-openmoji64")
    config = tiny(replace(base, loss=replace(base.loss, path_length=1.0))).without_text()
    assert not (config.reads_text or config.needs_encoder)
    trainer = Trainer(config.for_encoder(0, 0), None, torch.device("cpu"))
    before = {name: value.clone() for name, value in trainer.generator.named_parameters()}
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    trainer.step(images, [""] * 4)
    trainer.check_finite()
    assert any(
        not torch.equal(value, before[name]) for name, value in trainer.generator.named_parameters()
    )
    pictures = list(iterate_images(trainer.ema.model, None, ["", ""], [0, 1], View.square(32)))
    assert (pictures[0].image - pictures[1].image).abs().max() > 1e-4


def test_terms_that_need_the_image_tower_need_the_encoder():
    assert recipe("eidgan-uncond-coco256").needs_encoder  # ConD
    assert not recipe("creps-coco256").needs_encoder and not recipe("creps-coco256").reads_text
    assert not recipe("eidgan-coco256").without_text().needs_encoder


def test_the_table_is_whole():
    assert {f"{system}-{base}" for system in SYSTEMS for base in BASES} <= set(RECIPES)


@pytest.mark.parametrize("base", BASES)
def test_nodual_is_crepsclip(base):
    """Same run, same parameters by name and shape; below, the same pictures."""
    a, b = recipe(f"eidgan-nodual-{base}"), recipe(f"crepsclip-{base}")
    assert a.generator.kind == "eidgan" and b.generator.kind == "creps"
    assert replace(a, recipe=b.recipe, generator=b.generator) == b
    with torch.device("meta"):
        shapes = [
            {name: value.shape for name, value in config.generator.build().state_dict().items()}
            for config in (a, b)
        ]
    assert shapes[0] == shapes[1]


def test_nodual_draws_what_crepsclip_draws_bit_for_bit():
    creps = preset("crepsclip-small")
    generators = []
    for config in (creps, nodual(creps)):
        torch.manual_seed(0)  # the same draws in the same order
        generators.append(config.build())
    z = torch.randn(2, *generators[0].latent_shape)
    text = TextFeatures(
        torch.randn(2, 256), torch.randn(2, 5, 384), torch.ones(2, 5, dtype=torch.bool)
    )
    a, b = (generator(z, text, View(height=48, width=40)) for generator in generators)
    assert torch.equal(a, b) and a.std() > 0.05


@pytest.mark.slow
def test_a_quantiser_goes_in_front_of_eidgan_by_a_flag(openmoji32, tmp_path):
    config = override(
        replace(tiny(recipe("eidgan-openmoji64")), data=str(openmoji32)),
        ['text.quantizer={"num_codes": 32, "code_dim": 8, "slots": 2}'],
    )
    assert run(replace(config, kimg=0.024), tmp_path)
    record = json.loads((tmp_path / "stats.jsonl").read_text().splitlines()[-1])
    for part in ("sentence", "words"):
        assert (
            1 < record[f"Codebook/{part}_perplexity"] <= 32
            and 0 < record[f"Codebook/{part}_used"] <= 1
        )
    assert record["Loss/commitment"] > 0
    generator: Any = Snapshot.from_pretrained(tmp_path).generator
    assert (
        generator.config.kind == "quantized"
        and generator.quantizers["words"].quantizer.num_steps == 6
    )


def test_sampling_keeps_its_noise_behind_a_quantiser():
    config = override(recipe("eidgan-flowers64"), ["text.quantizer={}"])
    with torch.device("meta"):
        assert config.build_generator().config.text_noise == config.generator.text_noise == 0.5


@pytest.mark.parametrize(
    "name, message",
    [("vqcgan", "has its own; set generator.quantizer"), ("eidgan-uncond", "unconditional")],
)
def test_a_quantiser_that_cannot_be_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        override(recipe(f"{name}-openmoji64"), ["text.quantizer={}"])
    assert recipe(f"{name}-openmoji64").text.quantizer is None


def test_a_generator_of_another_size_is_refused():
    config = recipe("cipsclip-openmoji64")
    with pytest.raises(UserError, match="generator.resolution: 32 differs"):
        replace(config, generator=replace(config.generator, resolution=32))


@pytest.mark.slow
def test_the_cost_table_is_current():
    """docs/configs.md holds the counts of the recipes' networks.

    `python docs/cost_table.py` writes them anew.
    """
    path = Path(__file__).parents[2] / "docs" / "cost_table.py"
    spec = importlib.util.spec_from_file_location("cost_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.PAGE.read_text(encoding="utf-8")
    assert module.updated(text) == text, "run python docs/cost_table.py"
