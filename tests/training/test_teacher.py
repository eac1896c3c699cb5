"""The teacher: G's pictures are compared with those of the network that it started from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from configs import recipe
from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators import preset
from networks.patches import Patches
from networks.snapshot import Snapshot
from tests.networks.test_generator_contract import text_for
from tests.training.steps import make_trainer
from training.teacher import Teacher
from training.transfer import start_from

SIDE = 32  # that the teacher was trained at
CONFIG = replace(preset("eidgan-tiny"), bandwidth=0.5)
BOXES = torch.tensor([[0.0, 0.0, 1.0], [0.25, 0.5, 0.5], [0.375, 0.0, 0.25]], dtype=torch.float64)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = CONFIG.build().eval()
    path = tmp_path_factory.mktemp("run") / "network-snapshot-000001"
    Snapshot(generator, "hashed", SIDE).save_pretrained(path)
    return path


@pytest.fixture
def inputs():
    draws = torch.Generator().manual_seed(1)
    return torch.randn(3, CONFIG.num_tokens, CONFIG.token_dim, generator=draws), text_for(CONFIG, 3)


@pytest.fixture
def student(snapshot):
    """The teacher's network, which learns."""
    return Snapshot.from_pretrained(snapshot).generator.requires_grad_(True)


def test_its_own_pictures_have_no_distance(snapshot, student, inputs):
    teacher = Teacher(snapshot, student, torch.device("cpu"), SIDE)
    latents, text = inputs
    frames = student(latents, text, View.square(SIDE))
    assert teacher.distance(latents, text, frames, None).item() < 1e-6
    other = student(latents.flip(0), text, View.square(SIDE))
    assert teacher.distance(latents, text, other, None).item() > 0.01
    # Patches at the teacher's own density show the same pixels.
    codes = student.mapping(latents, text)
    for box in BOXES:
        patches = Patches(round(SIDE * box[2].item()), box.expand(3, 3))
        images = student.draw_patches(codes, patches)
        assert teacher.distance(latents, text, images, patches).item() < 1e-5


def test_all_patches_at_once_are_each_patch_alone(snapshot, student, inputs):
    """The written definition: an area mean of the patch, and samples of the teacher's frame."""
    teacher = Teacher(snapshot, student, torch.device("cpu"), SIDE)
    latents, text = inputs
    boxes = torch.tensor([[0.1, 0.2, 0.43], [-0.2, 0.7, 0.6], [0.3, 0.3, 1.5]], dtype=torch.float64)
    patches = Patches(24, boxes)
    images = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(2)) * 2 - 1
    frames = student(latents, text, View.square(SIDE)).detach()
    alone = []
    for image, frame, (x, y, extent) in zip(images, frames, boxes.tolist(), strict=True):
        side = min(round(SIDE * extent), SIDE)
        offsets = (torch.arange(side) + 0.5) * (extent / side)
        at = torch.stack(torch.meshgrid(y + offsets, x + offsets, indexing="ij")[::-1], dim=-1)
        sampled = functional.grid_sample(
            frame[None], at[None] * 2 - 1, padding_mode="border", align_corners=False
        )[0]
        shrunk = functional.interpolate(image[None], size=(side, side), mode="area")[0]
        inside = ((at >= 0) & (at <= 1)).all(dim=-1)
        alone.append((shrunk - sampled)[:, inside].abs().mean())
    found = teacher.distance(latents, text, images, patches)
    torch.testing.assert_close(found, torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)


def test_larger_pictures_are_averaged_down_and_give_gradients(snapshot, student, inputs):
    teacher = Teacher(snapshot, student, torch.device("cpu"), SIDE)
    latents, text = inputs
    student.use_samples(2)
    patches = Patches(SIDE, BOXES)
    near = student.draw_patches(student.mapping(latents, text), patches)
    far = student.draw_patches(student.mapping(latents.flip(0), text), patches)
    distance = teacher.distance(latents, text, near, patches)
    assert distance < teacher.distance(latents, text, far, patches) / 4
    distance.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.pixels.parameters())
    assert all(p.grad is None for p in teacher.network.parameters())


def test_what_is_finer_than_the_compared_size_is_free(snapshot, student, inputs):
    """Here the teacher was trained at twice the size that D reads."""
    teacher = Teacher(snapshot, student, torch.device("cpu"), SIDE // 2)
    latents, text = inputs
    frames = student(latents, text, View.square(SIDE)).detach()
    chess = torch.tensor([[0.5, -0.5], [-0.5, 0.5]]).repeat(SIDE // 2, SIDE // 2)
    assert teacher.distance(latents, text, frames + chess, None).item() < 1e-6
    assert teacher.distance(latents, text, frames + 0.5, None).item() > 0.4
    patches = Patches(SIDE, BOXES[:1].expand(3, 3))
    assert teacher.distance(latents, text, frames + chess, patches).item() < 1e-5


def test_what_lies_outside_of_the_frame_does_not_count(snapshot, student, inputs):
    teacher = Teacher(snapshot, student, torch.device("cpu"), SIDE)
    latents, text = inputs
    patches = Patches(16, torch.tensor([[-0.5, 0.0, 1.0]] * 3, dtype=torch.float64))
    images = student.draw_patches(student.mapping(latents, text), patches)
    changed = images.clone()
    changed[:, :, :, :8] = 9.0
    expected = teacher.distance(latents, text, images, patches)
    assert torch.equal(teacher.distance(latents, text, changed, patches), expected)
    patches = Patches(16, torch.tensor([[2.0, 2.0, 1.0]] * 3, dtype=torch.float64))
    assert teacher.distance(latents, text, images, patches) == 0


def test_what_does_not_fit_is_refused(snapshot):
    config = recipe("debug")
    with pytest.raises(UserError, match="loss.teacher: .* give --init-from"):
        replace(config, loss=replace(config.loss, teacher=1.0, style_mixing=0.0))
    for change in ({"imle": 1.0, "shared_fakes": True, "style_mixing": 0.0}, {"style_mixing": 0.5}):
        with pytest.raises(UserError, match="loss.teacher: .* loss.imle and loss.style_mixing"):
            replace(config.loss, teacher=1.0, **change)
    other = replace(CONFIG, num_tokens=2).build()
    with pytest.raises(UserError, match="loss.teacher: .* same mapping network"):
        Teacher(snapshot, other, torch.device("cpu"), SIDE)


def test_a_network_that_was_trained_with_another_text_encoder(snapshot, tmp_path):
    """It may give its weights, with a warning, but it may not be the teacher."""
    other = replace(Snapshot.from_pretrained(snapshot), encoder_id="hashed@other")
    other.save_pretrained(tmp_path / "other")
    config = replace(recipe("debug"), generator=CONFIG, init_from=str(tmp_path / "other"))
    lines = start_from(str(tmp_path / "other"), make_trainer(config))
    assert (
        "Warning: " in lines[1] and "hashed@other, but this run has text_encoder=hashed" in lines[1]
    )
    assert not any("Warning" in line for line in start_from(str(snapshot), make_trainer(config)))
    taught = replace(config, loss=replace(config.loss, teacher=1.0, style_mixing=0.0))
    with pytest.raises(UserError, match="loss.teacher: .* take the encoder of the teacher"):
        start_from(str(tmp_path / "other"), make_trainer(taught))
