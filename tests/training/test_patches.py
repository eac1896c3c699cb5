"""Training on patches: resume and accumulation bit for bit, every generator, config errors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from configs import recipe
from datasets.archive import Picture, write_archive
from datasets.loader import training_batches
from datasets.patches import PatchConfig
from datasets.text_image import TextImageDataset
from dnnlib.config_codec import from_dict, to_dict
from dnnlib.errors import UserError
from networks.coordinates import View
from networks.discriminators import FrozenFeaturesConfig
from networks.generators import preset
from networks.patches import PLACE_DIM
from networks.snapshot import Snapshot
from tests.networks.sizes import SMALL_FROZEN
from tests.training.steps import make_trainer, run_steps
from tests.training.test_training import assert_same_state, flat_state
from training.checkpoint import CheckpointIO
from training.config import TrainConfig
from training.launch import open_dataset
from training.loss_config import LossConfig
from training.transfer import start_from

SIZES = [(64, 48), (40, 90), (50, 50), (33, 32), (128, 40)]
DEBUG = replace(recipe("debug"), mirror=True, patches=PatchConfig(side=32, scale=(1.0, 2.5)))
WAVELET = DEBUG.resolved()
FROZEN = replace(
    DEBUG,
    loss=LossConfig(adversarial="hinge", shared_fakes=True, r1_gamma=0.0, mismatch=1.0),
    augment=replace(DEBUG.augment, mode="fixed", p=0.5),
    discriminator=FrozenFeaturesConfig(resolution=32, group_size=4, **SMALL_FROZEN),
    start_resolution=16,
    start_kimg=0.004,
).resolved()


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A data set of ten noisy pictures of five shapes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("native") / "shapes.zip"
    items = [
        Picture(
            rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
            f"{i}",
            (f"thing {i}",),
            "train" if i < 8 else "test",
        )
        for i, (width, height) in enumerate(SIZES * 2)
    ]
    write_archive(path, items, None, {})
    return path


@pytest.mark.parametrize("config", [WAVELET, FROZEN], ids=["wavelet", "frozen"])
def test_a_resumed_run_is_the_same_run_bit_for_bit(config, shapes, tmp_path):
    config = replace(config, batch=4)
    unbroken, first, second = (make_trainer(config) for _ in range(3))
    run_steps(unbroken, shapes, 2)
    run_steps(first, shapes, 1)
    CheckpointIO(tmp_path, first.objects).save(first.progress.images)
    CheckpointIO(tmp_path, second.objects).load_latest()
    run_steps(second, shapes, 1)
    assert_same_state(flat_state(unbroken), flat_state(second))


def test_two_rounds_equal_one_large_batch(shapes):
    """Fakes of each round are drawn at the boxes of its real pictures."""
    config = replace(WAVELET, loss=replace(WAVELET.loss, mismatch=0.0, path_length=0.0))
    whole, halves = make_trainer(config), make_trainer(replace(config, batch_gpu=4))
    for trainer in (whole, halves):
        run_steps(trainer, shapes, 1)
    assert (whole.rounds, halves.rounds) == (1, 2)
    pairs = list(zip(whole.player_d.parameters, halves.player_d.parameters, strict=True))
    largest = max(a.grad.abs().max() for a, _ in pairs)
    assert largest > 1e-3
    assert max((a.grad - b.grad).abs().max() for a, b in pairs) < 1e-5 * largest


def test_fakes_are_drawn_where_the_real_patches_lie(shapes):
    trainer = make_trainer(WAVELET)
    batch = next(
        training_batches(TextImageDataset(shapes), global_batch=8, seed=0, patches=WAVELET.patches)
    )
    (micro,) = trainer._split(batch.images, batch.captions, batch.boxes)
    assert torch.equal(micro.patches.boxes, batch.boxes)
    fakes = trainer.loss.draw(micro, "d")
    for i, (x, y, extent) in enumerate(batch.boxes.tolist()):
        view = View(height=32, width=32, box=(x, y, x + extent, y + extent))
        alone = trainer.generator.synthesis(fakes.codes[i : i + 1], view)
        torch.testing.assert_close(fakes.images[i : i + 1], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", [WAVELET, FROZEN], ids=["wavelet", "frozen"])
def test_a_discriminator_of_whole_pictures_judges_alike_once_it_reads_places(
    config, shapes, tmp_path
):
    plain = make_trainer(
        replace(config, recipe="debug", patches=PatchConfig(), mirror=False).resolved()
    )
    Snapshot(plain.ema.model, "hashed", 32, {}).save_pretrained(
        tmp_path / "network-snapshot-000000"
    )
    CheckpointIO(tmp_path, plain.objects).save(0)
    trainer = make_trainer(replace(config, seed=1))
    assert "D taken, 0 new" in start_from(str(tmp_path), trainer)[1]

    batch = next(
        training_batches(TextImageDataset(shapes), global_batch=8, seed=0, patches=config.patches)
    )
    (micro,) = trainer._split(batch.images, batch.captions, batch.boxes)
    text = trainer.generator.condition(micro.text)
    with torch.no_grad():
        before = plain.discriminator(micro.images, text).logits
        after = trainer.discriminator(
            micro.images, micro.patches.joined_to(text, micro.images.device)
        ).logits
    assert before.abs().max() > 1e-3
    # The wavelet discriminator divides its text term by the square root of the text's width.
    tolerance = 1e-5 if config is FROZEN else 0.1 * before.abs().max().item()
    torch.testing.assert_close(after, before, rtol=0, atol=tolerance)


def test_the_discriminator_reads_where_a_patch_lies(shapes):
    trainer = make_trainer(WAVELET)
    assert trainer.discriminator.config.sentence_dim == 64 + PLACE_DIM
    batch = next(
        training_batches(TextImageDataset(shapes), global_batch=8, seed=0, patches=WAVELET.patches)
    )
    assert batch.boxes is not None
    logits = []
    for boxes in (batch.boxes, batch.boxes + 0.5):
        (micro,) = trainer._split(batch.images, batch.captions, boxes)
        hidden = trainer.discriminator.trunk(micro.images)
        logits.append(trainer.loss._judge(micro, hidden, micro.text).logits)
    assert (logits[0] - logits[1]).abs().min() > 1e-5


@pytest.mark.parametrize("kind", ["creps", "inrgan", "cips"])
def test_every_generator_of_any_view_trains_on_patches(kind, shapes):
    config = replace(WAVELET, generator=preset(f"{kind}-tiny"), batch=4).resolved()
    trainer = make_trainer(config)
    before = {name: value.clone() for name, value in trainer.generator.state_dict().items()}
    run_steps(trainer, shapes, 1)
    trainer.check_finite()
    assert trainer.player_g.num_skipped == trainer.player_d.num_skipped == 0
    changed = sum(
        not torch.equal(value, before[name])
        for name, value in trainer.generator.state_dict().items()
    )
    assert changed > len(before) / 2


def test_a_run_without_text_judges_places_alone(shapes):
    config = replace(DEBUG.without_text(), batch=4).resolved()
    trainer = make_trainer(config)
    assert trainer.discriminator.config.sentence_dim == PLACE_DIM
    run_steps(trainer, shapes, 1)
    trainer.check_finite()


def test_gradient_penalty_on_text_leaves_places_out(shapes):
    loss = LossConfig(r1_gamma=1.0, matching_aware_gp=2.0, mismatch=1.0)
    trainer = make_trainer(replace(WAVELET, loss=loss, batch=4))
    run_steps(trainer, shapes, 1)
    trainer.check_finite()
    assert trainer.player_d.num_skipped == 0


def test_patches_may_be_smaller_than_the_frame_of_the_samples(shapes):
    small = PatchConfig(side=16, scale=(1.0, 2.0))
    discriminator = replace(DEBUG.discriminator, resolution=16, spectral_scale=8)
    config = replace(DEBUG, patches=small, discriminator=discriminator, batch=4).resolved()
    assert config.resolution == 32 and config.judged_side == config.side_at(0) == 16
    trainer = make_trainer(config)
    run_steps(trainer, shapes, 1)
    trainer.check_finite()


def test_options_of_earlier_runs_mean_that_patches_are_off():
    options = json.loads(json.dumps(to_dict(recipe("debug"))))
    del options["patches"]
    assert from_dict(TrainConfig, options) == recipe("debug")
    assert recipe("debug").patches.side == 0
    assert recipe("debug").resolved().discriminator.sentence_dim == 64


@pytest.mark.parametrize("kind", ["stylegan2", "vqcgan"])
def test_systems_of_one_size_are_refused_by_name(kind):
    with pytest.raises(
        UserError, match=f"patches.side: {kind} draws the whole frame at one size only"
    ):
        replace(DEBUG, generator=preset(f"{kind}-tiny"))


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="discriminator.resolution: 32 differs from patches.side"):
        replace(DEBUG, patches=PatchConfig(side=16))
    large = replace(DEBUG.discriminator, resolution=64)
    with pytest.raises(UserError, match="patches.side: 64 is larger than resolution = 32; take"):
        replace(DEBUG, patches=PatchConfig(side=64), discriminator=large)
    with pytest.raises(UserError, match="start_resolution: must lie between half of patches.side"):
        replace(FROZEN, start_resolution=8)


def test_data_of_native_sizes_need_patches_and_pictures_large_enough(shapes, openmoji32):
    whole = replace(recipe("debug"), data=str(shapes))
    with pytest.raises(UserError, match="pictures have different sizes; train on .*--patch"):
        open_dataset(whole)
    assert open_dataset(replace(DEBUG, data=str(shapes))).native
    large = replace(DEBUG.discriminator, resolution=64)
    at_64 = replace(
        DEBUG, resolution=64, patches=PatchConfig(side=64), discriminator=large, data=str(shapes)
    )
    with pytest.raises(UserError, match="8 of 8 pictures have fewer than 64 pixels on their short"):
        open_dataset(at_64)
    other = replace(DEBUG, resolution=64, patches=PatchConfig(), discriminator=large)
    with pytest.raises(UserError, match="32x32, .* .or train on patches of larger"):
        open_dataset(replace(other, data=str(openmoji32)))
