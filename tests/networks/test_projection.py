"""project.py and generate.py --codes: the search gets closer, and its codes draw any view."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import generate
import project
from dnnlib.errors import UserError
from networks import projection
from networks.codes_file import load_codes
from networks.coordinates import View
from networks.generators import preset
from networks.pretrained import frozen
from networks.snapshot import Snapshot
from tests.networks.sizes import Pixels

SIDE = 16
TOWER = projection.FrozenScales


@pytest.fixture(autouse=True)
def _quick_tower(monkeypatch):
    monkeypatch.setattr(projection, "FrozenScales", Pixels)


@pytest.fixture
def target(tmp_path):
    """A picture of two colours, twice as wide as high."""
    pixels = np.full((40, 80, 3), (200, 60, 30), np.uint8)
    pixels[20:] = (20, 90, 160)
    Image.fromarray(pixels).save(tmp_path / "target.png")
    return tmp_path / "target.png"


def invoke(command, *arguments, code=0):
    done = CliRunner().invoke(command.main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    assert code == 0 or done.stderr.splitlines()[-1].startswith("Error: ")
    return done


@pytest.mark.slow
def test_the_loss_falls_and_the_codes_draw_every_view(network, target, tmp_path):
    out = tmp_path / "codes.safetensors"
    line = ("--network", network, "--target", target, "--prompt", "a red apple", "--steps", 60)
    done = invoke(project, *line, "--out", out)
    assert "80x40 is resized to 16x16 and cropped to the middle 40 px" in done.stderr
    snapshot = Snapshot.from_pretrained(network)
    codes, facts = load_codes(out, snapshot)
    assert facts["prompt"] == "a red apple" and facts["target"] == "target.png"

    image = project.read_target(str(target), SIDE)
    text = snapshot.load_encoder().encode_text(["a red apple"])
    first, spread = projection.start(snapshot.generator, text, 0, at_mean=False)
    loss_of = projection.TargetLoss(image, Pixels())
    before, after = (
        loss_of(snapshot.generator.synthesis(one, View.square(SIDE))).item()
        for one in (first, codes)
    )
    assert after < 0.35 * before
    assert projection.psnr(snapshot.generator, codes, image) == pytest.approx(
        float(facts["psnr"]), abs=0.01
    )
    again = projection.project(snapshot.generator, image, first, steps=60, spread=spread)
    assert torch.equal(projection.best(again)[1].codes.tokens, codes.tokens)

    pictures = tmp_path / "pictures"
    view = ("--size", "24x12", "--window", "0,0,1,0.5", "--outdir", pictures)
    drawn = invoke(generate, "--network", network, "--codes", out, *view)
    expected = snapshot.generator.synthesis(
        codes, View(height=12, width=24, box=(0.0, 0.0, 1.0, 0.5))
    )[0]
    with Image.open(drawn.stdout.strip()) as picture:
        assert picture.info["prompt"] == "a red apple"
        found = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    wanted = ((expected.clamp(-1, 1) + 1) * 127.5).round()
    assert (found - wanted).abs().max() <= 1


def test_the_saved_codes_are_never_worse_than_the_start(network, target, tmp_path, monkeypatch):
    monkeypatch.setattr(projection, "LEARNING_RATE", 1e3)
    monkeypatch.setattr(projection, "rate", lambda progress: 1.0)
    line = ("--network", network, "--target", target, "--steps", 3)
    done = invoke(project, *line, "--out", tmp_path / "codes.safetensors")
    assert "after 0 of 3 steps, the least" in done.stderr
    snapshot = Snapshot.from_pretrained(network)
    codes, _ = load_codes(tmp_path / "codes.safetensors", snapshot)
    assert torch.equal(codes.tokens[0], snapshot.generator.tokens_mean)


def test_the_step_of_least_loss_is_the_best():
    losses = [0.5, float("nan"), 0.25, 0.75]
    steps = [projection.Step(loss, None) for loss in losses]
    assert projection.best(steps) == (2, steps[2])
    with pytest.raises(UserError, match="are not finite; take another snapshot"):
        projection.best(steps[1:2])


def test_the_rate_of_learning_rises_falls_and_ends_at_nothing():
    rates = [projection.rate(step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.01) and max(rates) == 1 and rates[40] == 1
    assert rates[-1] == 0 and rates[80] > rates[90] > rates[99] > 0


def test_without_a_prompt_the_search_begins_at_the_mean(network):
    snapshot = Snapshot.from_pretrained(network)
    snapshot.generator.tokens_mean.fill_(0.25)
    text = snapshot.load_encoder().encode_text([""])
    first, spread = projection.start(snapshot.generator, text, 3, at_mean=True)
    assert first.tokens.eq(0.25).all() and spread > 0
    other, _ = projection.start(snapshot.generator, text, 4, at_mean=False)
    same, _ = projection.start(snapshot.generator, text, 4, at_mean=False)
    assert torch.equal(other.tokens, same.tokens) and not torch.equal(first.tokens, other.tokens)


def test_a_network_without_text_is_projected_as_well(target, tmp_path, monkeypatch):
    monkeypatch.setattr(projection, "FrozenScales", TOWER)  # the real one
    config = replace(preset("eidgan-tiny"), sentence_dim=0, word_dim=0)
    folder = tmp_path / "bare"
    Snapshot(config.build().eval(), "", SIDE).save_pretrained(folder)
    out = tmp_path / "codes.safetensors"
    line = ("--network", folder, "--target", target, "--out", out)
    invoke(project, *line, "--steps", 1)
    invoke(generate, "--network", folder, "--codes", out, "--outdir", tmp_path / "pictures")
    assert "was trained without text" in invoke(project, *line, "--prompt", "a", code=1).stderr


def test_a_long_strip_is_cut_before_it_is_enlarged(tmp_path, monkeypatch):
    seen, fit_square = [], frozen.fit_square

    def watched(images, size_px):
        seen.append(images.shape[-2:])
        return fit_square(images[..., :8, :8], size_px)

    monkeypatch.setattr(frozen, "fit_square", watched)
    for size in ((3000, 1), (1, 3000), (2, 17), (80, 10)):
        Image.new("RGB", size, (200, 60, 30)).save(tmp_path / "strip.png")
        assert project.read_target(str(tmp_path / "strip.png"), SIDE).shape == (3, SIDE, SIDE)
    assert seen == [(1, 8), (8, 1), (16, 2), (10, 80)]


def test_the_middle_of_a_strip_is_the_target(tmp_path):
    pixels = np.zeros((2, 400, 3), np.uint8)
    pixels[:, 199:201] = 255
    Image.fromarray(pixels).save(tmp_path / "strip.png")
    assert project.read_target(str(tmp_path / "strip.png"), 2).eq(1).all()


def test_bad_input_is_one_line(network, target, tmp_path):
    out = tmp_path / "codes.safetensors"
    line = ("--network", network, "--out", out, "--steps", 1)

    def refused(command, *arguments):
        return invoke(command, *arguments, code=1).stderr

    (tmp_path / "letter.png").write_text("a letter")
    assert "letter.png is not a readable picture" in refused(
        project, *line, "--target", tmp_path / "letter.png"
    )
    assert "nothing.png" in refused(project, *line, "--target", tmp_path / "nothing.png")
    (tmp_path / "letter.safetensors").write_text("a letter")
    foreign = ("--network", network, "--target", target, "--out", tmp_path / "letter.safetensors")
    assert "is no file of codes that project.py wrote" in refused(project, *foreign)
    (tmp_path / "empty").mkdir()
    no_picture = ("--target", tmp_path / "nothing.png")  # it would be read after the check
    assert "empty is a folder" in refused(project, *line, *no_picture, "--out", tmp_path / "empty")

    invoke(project, *line, "--target", target.rename(tmp_path / os.fsdecode(b"caf\xe9.png")))
    assert load_codes(out, Snapshot.from_pretrained(network))[1]["target"] == "caf\u00e9.png"
    other = tmp_path / "other"
    Snapshot(preset("eidgan-tiny").build().eval(), "hashed", SIDE).save_pretrained(other)
    draw = ("--outdir", tmp_path / "pictures", "--network")
    assert "codes were made with the network of hash" in refused(
        generate, *draw, other, "--codes", out
    )
    for codes, words in (
        (tmp_path / "none.safetensors", "does not exist"),
        (tmp_path / "letter.safetensors", "is no file of codes"),
        (network / "model.safetensors", "is no file of codes"),
    ):
        assert words in refused(generate, *draw, network, "--codes", codes)
    options = (("--prompts", "a"), ("--seeds", "1"), ("--trunc", "0.5"), ("--text-noise", "5"))
    for option in options:
        assert f"{option[0]} has no effect on --codes" in refused(
            generate, *draw, network, "--codes", out, *option
        )
