"""generate.py --lerp and --mix: between two prompts, and style codes of two seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import generate
from networks.code_edits import interpolated, mixed, mixed_numbers
from networks.coordinates import View
from networks.generators import preset
from networks.sampling import draw_codes
from networks.snapshot import Snapshot

ENDS = ["a red apple", "a green leaf"]


@pytest.fixture
def invoke(network, tmp_path):
    def call(*arguments, code=0, network=network):
        line = ["--network", network, "--outdir", tmp_path / "out", *arguments]
        done = CliRunner().invoke(generate.main, [str(argument) for argument in line])
        assert done.exit_code == code, done.output
        return done

    return call


def pixels(path):
    with Image.open(path) as picture:
        return np.array(picture)


def test_lerp_draws_from_one_prompt_to_the_other(invoke, network, tmp_path):
    paths = invoke("--lerp", *ENDS, 3, "--seeds", "4,7").stdout.splitlines()
    names = [path.rsplit("/", 1)[1] for path in paths]
    assert names[0] == "0-a-red-apple-to-a-green-leaf-seed0004.png" and len(names) == 6
    ends = [
        invoke("--prompts", prompt, "--seeds", "4,7", "--outdir", tmp_path / prompt[2:5])
        for prompt in ENDS
    ]
    first, last = ([pixels(path) for path in done.stdout.splitlines()] for done in ends)
    for i in range(2):
        for found, wanted in ((paths[3 * i], first[i]), (paths[3 * i + 2], last[i])):
            assert abs(pixels(found).astype(int) - wanted).max() <= 1
        assert abs(pixels(paths[3 * i + 1]).astype(int) - first[i]).max() > 2


def test_the_middle_is_the_mean_of_both_ends(network):
    snapshot = Snapshot.from_pretrained(network)
    generator, encoder = snapshot.generator, snapshot.load_encoder()

    def draw(prompt, seed):
        return draw_codes(generator, encoder, [prompt], [seed], truncation=0.5)

    found, ends = interpolated(draw, ENDS[0], ENDS[1], 3, 0.5), [draw(prompt, 3) for prompt in ENDS]
    torch.testing.assert_close(found.tokens, (ends[0].tokens + ends[1].tokens) / 2)
    torch.testing.assert_close(found.sentence, (ends[0].sentence + ends[1].sentence) / 2)


def test_mix_takes_codes_of_another_seed(invoke, network):
    snapshot = Snapshot.from_pretrained(network)
    generator, encoder = snapshot.generator, snapshot.load_encoder()
    codes, other = (draw_codes(generator, encoder, ENDS[:1], [seed]) for seed in (0, 9))
    both = mixed(codes, other, [1, 3])
    assert torch.equal(both.tokens[:, [1, 3]], other.tokens[:, [1, 3]])
    assert torch.equal(both.tokens[:, [0, 2]], codes.tokens[:, [0, 2]])
    assert mixed_numbers(generator, None) == [2, 3]

    line = ("--prompts", ENDS[0], "--seeds", "1,0", "--mix", 9, "--mix-codes", "1,3")
    path = invoke(*line).stdout.splitlines()[1]
    image = generator.synthesis(both, View.square(16))[0]
    wanted = ((image.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0)
    assert abs(pixels(path) - wanted.numpy()).max() <= 1


def test_bad_input_is_one_line(invoke, tmp_path):
    def refused(*arguments, **options):
        error = invoke(*arguments, code=1, **options).stderr
        assert error.startswith("Error: ") and error.count("\n") == 1
        return error

    mix = ("--prompts", "a", "--mix", 1)
    assert "network has the style codes 0 to 3" in refused(*mix, "--mix-codes", "2-4")
    assert "--mix-codes x: expected numbers" in refused(*mix, "--mix-codes", "x")
    assert "needs --mix SEED" in refused("--prompts", "a", "--mix-codes", "1")
    assert "--mix has no effect on --lerp" in refused("--lerp", "a", "b", 2, "--mix", 1)
    assert "--prompts has no effect on --lerp" in refused("--lerp", "a", "b", 2, "--prompts", "a")
    assert "no prompt" in refused("--lerp", "a", "", 2)
    assert "2<=x<=10000" in invoke("--lerp", "a", "b", 1, code=2).stderr
    creps = tmp_path / "creps"
    Snapshot(preset("creps-tiny").build().eval(), "hashed", 16).save_pretrained(creps)
    assert "has one style code" in refused(*mix, network=creps)
