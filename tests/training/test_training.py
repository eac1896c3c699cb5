"""Training steps, checkpoints and configs, on real pictures at the size of the debug recipe."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from configs import RECIPES, recipe
from dnnlib.config_codec import from_dict, to_dict
from dnnlib.errors import UserError
from metrics.evaluations import EVALUATIONS
from networks.discriminators import DcganDiscriminatorConfig, FrozenFeaturesConfig
from networks.generators import preset
from networks.hub_snapshots import DISCRIMINATOR
from networks.layers.vector_quantizer import VectorQuantizerConfig
from networks.snapshot import Snapshot
from tests.networks.sizes import SMALL_FROZEN
from tests.training.steps import make_trainer, run_steps
from training.checkpoint import CheckpointIO
from training.config import EmaConfig, TextConfig, TrainConfig
from training.launch import run
from training.loss_config import LossConfig
from training.transfer import find_discriminator, start_from


def flat_state(trainer):
    """{path: tensor or number} of everything that a checkpoint holds."""
    state = {}

    def walk(path, value):
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{path}/{key}", item)
        elif isinstance(value, (list, tuple)):
            for key, item in enumerate(value):
                walk(f"{path}/{key}", item)
        else:
            state[path] = value.clone() if isinstance(value, torch.Tensor) else value

    for name, item in trainer.objects.items():
        walk(name, item.state_dict())
    return state


def assert_same_state(a, b):
    def same(x, y):
        return torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y

    assert a.keys() == b.keys()
    different = [name for name in a if not same(a[name], b[name])]
    assert not different, different[:5]


QUANTIZED = replace(
    recipe("debug"),
    text=TextConfig(quantizer=VectorQuantizerConfig(num_codes=16, code_dim=4, slots=2)),
)
VQCGAN = replace(
    recipe("debug"),
    generator=preset("vqcgan-tiny"),
    discriminator=DcganDiscriminatorConfig(resolution=32, channel_base=256, sentence_dim=64),
    loss=LossConfig(r1_gamma=0.0, mismatch=1.0),
)


# Four steps at half the side, then at the whole side.
FROZEN = replace(
    recipe("debug"),
    start_resolution=16,
    start_kimg=0.032,
    loss=LossConfig(adversarial="hinge", shared_fakes=True, r1_gamma=0.0, mismatch=1.0, imle=0.5),
    discriminator=FrozenFeaturesConfig(
        resolution=32, group_size=4, sentence_dim=64, **SMALL_FROZEN
    ),
)


POSTHOC = replace(recipe("debug"), ema=EmaConfig(posthoc=(0.05, 0.1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [recipe("debug"), QUANTIZED, VQCGAN, FROZEN, POSTHOC],
    ids=["debug", "quantized", "vqcgan", "frozen", "posthoc"],
)
def test_six_steps_equal_three_steps_a_checkpoint_and_three_steps_bit_for_bit(
    config, openmoji32, tmp_path
):
    unbroken = make_trainer(config)
    run_steps(unbroken, openmoji32, 6)
    first = make_trainer(config)
    run_steps(first, openmoji32, 3)
    CheckpointIO(tmp_path, first.objects).save(first.progress.images)
    del first
    second = make_trainer(config)
    torch.manual_seed(12345)  # steps must not depend on torch's global stream
    CheckpointIO(tmp_path, second.objects).load_latest()
    run_steps(second, openmoji32, 3)
    assert_same_state(flat_state(unbroken), flat_state(second))


@pytest.mark.slow
def test_a_run_starts_at_a_smaller_side(openmoji32, monkeypatch):
    trainer, sides = make_trainer(FROZEN), []
    sense = trainer.discriminator.sense

    def recorded(images):
        sides.append(images.shape[-1])
        return sense(images)

    monkeypatch.setattr(trainer.discriminator, "sense", recorded)
    run_steps(trainer, openmoji32, 6)
    assert sides == [16] * 8 + [32] * 4  # fakes and reals of each step
    assert FROZEN.side_at(31) == 16 and FROZEN.side_at(32) == recipe("debug").side_at(0) == 32
    with pytest.raises(UserError, match="start_resolution: must lie between half of resol"):
        replace(FROZEN, start_resolution=64)
    with pytest.raises(UserError, match="start_resolution: must lie between half"):
        replace(FROZEN, start_resolution=15)
    with pytest.raises(UserError, match="start_kimg: must lie between 0 and"):
        replace(FROZEN, start_kimg=-1.0)
    with pytest.raises(UserError, match="start_kimg: says how long start_resolution lasts"):
        replace(FROZEN, start_resolution=0)
    for fixed in (
        {"discriminator": recipe("debug").discriminator},
        {"generator": preset("stylegan2-tiny")},
    ):
        with pytest.raises(UserError, match="start_resolution: needs a generator and a discrimin"):
            replace(FROZEN, **fixed)


def test_transfer_takes_the_discriminator_of_a_run_folder_or_a_published_snapshot(
    openmoji32, tmp_path
):
    first = make_trainer(recipe("debug"))
    folder, state = tmp_path / "network-snapshot-000000", tmp_path / "training-state-000000.pt"
    Snapshot(first.ema.model, "hashed", 32, {}).save_pretrained(folder)
    run_steps(first, openmoji32, 1)
    CheckpointIO(tmp_path, first.objects).save(0)
    second = make_trainer(replace(recipe("debug"), seed=1))
    assert "D taken, 0 new" in start_from(str(tmp_path), second)[1]
    assert all(
        torch.equal(value, second.discriminator.state_dict()[name])
        for name, value in first.discriminator.state_dict().items()
    )
    other = make_trainer(replace(recipe("debug"), seed=1))
    before = other.discriminator.state_dict()["from_rgb.weight"].clone()
    assert "D starts fresh" in start_from(str(folder), other)[1]
    assert torch.equal(before, other.discriminator.state_dict()["from_rgb.weight"])

    published = tmp_path / "published"
    tensors = find_discriminator(tmp_path).tensors
    Snapshot.from_pretrained(folder).save_pretrained(published, half=True, discriminator=tensors)
    assert start_from(str(published), other)[1].startswith("discriminator.safetensors: ")
    for name, value in first.discriminator.state_dict().items():
        torch.testing.assert_close(other.discriminator.state_dict()[name], value.half().float())
    Snapshot.from_pretrained(folder).save_pretrained(published)  # replaced, with all its files
    assert find_discriminator(published) is None
    save_file({"a": torch.full((2,), float("nan"))}, published / DISCRIMINATOR)
    with pytest.raises(UserError, match="discriminator.safetensors: tensor 'a' is not finite"):
        start_from(str(published), other)
    (published / DISCRIMINATOR).write_bytes(b"no tensors")
    with pytest.raises(UserError, match="discriminator.safetensors is not a safetensors file"):
        start_from(str(published), other)

    state.write_bytes(b"no state")
    with pytest.raises(UserError, match="no training-state-.*.pt can be read"):
        start_from(str(tmp_path), other)


def test_transfer_warns_where_most_of_g_starts_anew(tmp_path):
    small = preset("eidgan-tiny")
    Snapshot(make_trainer(recipe("debug")).ema.model, "hashed", 32, {}).save_pretrained(tmp_path)
    wider = replace(recipe("debug"), generator=replace(small, channels=(64, 64), token_dim=32))
    lines = start_from(str(tmp_path), make_trainer(wider))
    assert lines[1].startswith("Warning: most of G starts anew; set generator.*")
    plain = replace(recipe("debug"), generator=replace(small, spectral=False))
    assert re.search(
        r" 0 new, \d+ not used \(.*spectral", start_from(str(tmp_path), make_trainer(plain))[0]
    )
    alike = start_from(str(tmp_path), make_trainer(replace(recipe("debug"), seed=1)))
    assert not any(line.startswith("Warning") for line in alike)


@pytest.mark.slow
def test_a_long_run_is_also_saved_by_the_clock(openmoji32, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr("faulthandler.enable", lambda: None)  # it needs a real stderr
    monkeypatch.setattr(CheckpointIO, "start_save", lambda self, images: saved.append(images))
    config = replace(
        recipe("debug"),
        data=str(openmoji32),
        kimg=0.048,
        snapshot_ticks=100,
        checkpoint_minutes=1e-9,
        report_to=(),
        device="cpu",
    )
    assert run(config, tmp_path)
    assert saved == [0, 16, 32, 48]


def test_accumulation_over_two_rounds_equals_one_large_batch(openmoji32):
    """The minibatch groups of D, two pictures each, lie inside the halves.

    The gradients of G are less exact, because D has taken an Adam step before.
    """
    config = recipe("debug")
    # The mismatched text is that of the next picture in a forward pass, so it depends on the split.
    config = replace(config, loss=replace(config.loss, mismatch=0.0, path_length=0.0))
    whole, halves = make_trainer(config), make_trainer(replace(config, batch_gpu=config.batch // 2))
    for trainer in (whole, halves):
        run_steps(trainer, openmoji32, 1)
    assert (whole.rounds, halves.rounds) == (1, 2)
    for player, tolerance in (("player_d", 1e-5), ("player_g", 1e-2)):
        pairs = list(
            zip(getattr(whole, player).parameters, getattr(halves, player).parameters, strict=True)
        )
        largest = max(a.grad.abs().max() for a, _ in pairs)
        assert largest > 1e-3
        assert max((a.grad - b.grad).abs().max() for a, b in pairs) < tolerance * largest


@pytest.mark.slow
def test_shared_fakes_are_drawn_again_where_the_batch_accumulates(openmoji32):
    """Groups of four lie inside the halves.

    The mismatched text and the units of IMLE depend on the split, so they are off.
    """
    config = replace(
        FROZEN,
        loss=replace(FROZEN.loss, mismatch=0.0, imle=0.0),
        augment=replace(FROZEN.augment, mode="fixed", p=0.5),
    )
    whole, halves = make_trainer(config), make_trainer(replace(config, batch_gpu=config.batch // 2))
    for trainer in (whole, halves):
        run_steps(trainer, openmoji32, 1)
    assert (whole.loss.keep_fakes, halves.loss.keep_fakes) == (True, False)
    for player, tolerance in (("player_d", 1e-5), ("player_g", 1e-2)):
        both = [getattr(trainer, player).parameters for trainer in (whole, halves)]
        pairs = list(zip(*both, strict=True))
        largest = max(a.grad.abs().max() for a, _ in pairs)
        assert largest > 1e-3
        assert max((a.grad - b.grad).abs().max() for a, b in pairs) < tolerance * largest


def test_path_length_and_ema_change_what_they_should(openmoji32):
    trainer = make_trainer(recipe("debug"))
    before = {name: value.clone() for name, value in trainer.ema.state_dict().items()}
    run_steps(trainer, openmoji32, 2)
    assert trainer.loss.path_length_mean > 0
    assert any(
        not torch.equal(before[name], value) for name, value in trainer.ema.state_dict().items()
    )
    assert trainer.generator.tokens_mean.abs().sum() > 0
    assert torch.equal(trainer.ema.model.tokens_mean, trainer.generator.tokens_mean)


def test_text_noise_is_the_same_for_every_split_and_fresh_in_every_step(openmoji32):
    noisy = replace(recipe("debug"), text=TextConfig(noise=0.5))
    seen = []
    for config in (recipe("debug"), noisy, replace(noisy, batch_gpu=4)):
        trainer = make_trainer(config)
        images, captions = torch.zeros(8, 3, 32, 32, dtype=torch.uint8), ["a cat"] * 8
        seen.append(torch.cat([micro.text.sentence for micro in trainer._split(images, captions)]))
    clean, whole, halves = seen
    assert torch.equal(whole, halves) and not torch.equal(whole[0], whole[1])
    trainer.progress.images += 8
    assert not torch.equal(whole[:4], trainer._split(images, captions)[0].text.sentence)
    torch.testing.assert_close(whole.norm(dim=1), clean.norm(dim=1))


def test_learning_rates_fall_in_a_line_over_the_last_share(openmoji32):
    config = replace(recipe("debug"), kimg=1.0, lr_decay=0.5)
    scales = [config.lr_scale(images) for images in (0, 500, 750, 1000, 2000)]
    assert scales == [1.0, 1.0, 0.5, 0.05, 0.05]
    assert replace(config, lr_decay=0.0).lr_scale(1000) == 1.0
    trainer = make_trainer(config)
    trainer.progress.images = 752
    run_steps(trainer, openmoji32, 1)
    assert trainer.player_g.optimizer.param_groups[0]["lr"] == pytest.approx(
        config.optimizer_g.lr * 0.496
    )
    with pytest.raises(UserError, match="lr_decay"):
        replace(config, lr_decay=1.5)


@pytest.mark.slow
def test_bf16_gradients_stay_near_float32(openmoji32):
    exact = make_trainer(recipe("debug"))
    rounded = make_trainer(replace(recipe("debug"), precision="bf16"))
    for trainer in (exact, rounded):
        run_steps(trainer, openmoji32, 1)
    flat = [
        torch.cat([p.grad.flatten() for p in trainer.player_d.parameters])
        for trainer in (exact, rounded)
    ]
    assert 1e-4 < (flat[0] - flat[1]).norm() / flat[0].norm() < 0.2  # measured: 0.10


def test_damaged_checkpoint_falls_back_to_the_one_before(openmoji32, tmp_path, capsys):
    trainer = make_trainer(recipe("debug"))
    io = CheckpointIO(tmp_path, trainer.objects)
    io.save(1000)
    newest = io.save(2000)
    newest.write_bytes(newest.read_bytes()[:5000])
    assert io.load_latest().name == "training-state-000001.pt"
    assert "training-state-000002.pt cannot be read" in capsys.readouterr().out
    (tmp_path / "training-state-000001.pt").write_text("hello")
    with pytest.raises(UserError, match="no training-state"):
        io.load_latest()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_round_trip_through_json(name):
    config = recipe(name)
    assert config.recipe == name
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_config_cross_checks():
    config = recipe("debug")
    with pytest.raises(UserError, match="discriminator.resolution"):
        replace(config, resolution=64)
    with pytest.raises(UserError, match="multiple of the 3 processes"):
        config.micro_batches(3)
    with pytest.raises(UserError, match="must divide"):
        replace(config, batch_gpu=3).micro_batches(1)
    assert replace(config, batch_gpu=2).micro_batches(2) == (2, 2)
    with pytest.raises(UserError, match="kid_lite2"):
        replace(config, metrics=("kid_lit2",))


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"debug", "eidgan-openmoji32"}))
def test_recipes_watch_a_cheap_proxy(name):
    config = RECIPES[name]()
    assert config.metrics == ("kid_lite2",)
    assert config.metric_num <= EVALUATIONS["kid_lite2"].pictures.num_images
