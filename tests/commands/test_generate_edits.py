"""generate.py --lerp, --lerp-seeds and --mix: between two pictures, and codes of two seeds."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import generate
from networks.code_edits import Sampler, mixed, mixed_numbers
from networks.coordinates import View
from networks.edit_options import EditOptions
from networks.generators import preset
from networks.sampling import draw_codes
from networks.snapshot import Snapshot
from networks.text_encoders.hashed import HashedEncoder
from networks.view_options import ViewOptions

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
    sampler = Sampler(generator=generator, encoder=encoder, truncation=0.5)
    drawn_by, found = sampler.between((ENDS[0], 3), (ENDS[1], 3), 0.5, "codes")
    ends = [draw_codes(generator, encoder, [prompt], [3], truncation=0.5) for prompt in ENDS]
    assert drawn_by is generator
    torch.testing.assert_close(found.tokens, (ends[0].tokens + ends[1].tokens) / 2)
    torch.testing.assert_close(found.sentence, (ends[0].sentence + ends[1].sentence) / 2)


def test_seeds_are_interpolated_for_each_prompt(invoke, tmp_path):
    line = ("--prompts", ENDS[0], "--prompts", ENDS[1])
    paths = invoke(*line, "--lerp-seeds", 4, 7, 3, "--lerp-in", "inputs").stdout.splitlines()
    ends = invoke(*line, "--seeds", "4,7", "--outdir", tmp_path / "ends").stdout.splitlines()
    for i, wanted in ((0, 0), (2, 1), (3, 2), (5, 3)):
        assert abs(pixels(paths[i]).astype(int) - pixels(ends[wanted])).max() <= 1
    assert abs(pixels(paths[1]).astype(int) - pixels(ends[0])).max() > 2
    with Image.open(paths[1]) as picture:
        assert picture.info["lerp"] == "3 from seed 4 to seed 7 in inputs"


@pytest.mark.parametrize("preset_name", ["eidgan-tiny", "creps-tiny", "vqcgan-tiny"])
def test_texts_and_latents_meet_their_ends(preset_name):
    """Prompts of 1 and 4 words: repeated words change nothing, so both ends are those prompts."""
    torch.manual_seed(0)
    generator = preset(preset_name).build().eval()
    sampler = Sampler(generator=generator, encoder=HashedEncoder(), text_noise=0.5)
    first, last = ("apple", 1), ("one very green leaf", 2)
    for weight, end in ((0.0, first), (1.0, last)):
        _, found = sampler.between(first, last, weight, "inputs")
        torch.testing.assert_close(found.tokens, sampler.codes(end).tokens, rtol=1e-5, atol=1e-5)
    _, middle = sampler.between(first, last, 0.5, "inputs")
    _, mean = sampler.between(first, last, 0.5, "codes")
    assert (middle.tokens - mean.tokens).abs().max() > 1e-3


@pytest.mark.parametrize("space", ["inputs", "codes"])
def test_the_text_of_both_ends_is_read_once_for_all_pictures_between(space):
    generator, encoder = preset("eidgan-tiny").build().eval(), HashedEncoder()
    first, last = (ENDS[0], 3), (ENDS[1], 4)
    weights = [i / 4 for i in range(5)]
    fresh = [
        Sampler(generator=generator, encoder=encoder).between(first, last, weight, space)[1]
        for weight in weights
    ]
    sampler = Sampler(generator=generator, encoder=encoder)
    with mock.patch.object(encoder, "encode_text", wraps=encoder.encode_text) as encode:
        kept = [sampler.between(first, last, weight, space)[1] for weight in weights]
        assert [call.args[0] for call in encode.call_args_list] == [[ENDS[0]], [ENDS[1]]]
    for one, other in zip(kept, fresh, strict=True):
        assert torch.equal(one.tokens, other.tokens) and torch.equal(one.sentence, other.sentence)


def test_blend_goes_from_the_picture_to_another_prompt_and_seed(invoke, tmp_path):
    line = ("--prompts", ENDS[0], "--seeds", 4)

    def drawn(name, *words):
        (path,) = invoke(*words, "--outdir", tmp_path / name).stdout.splitlines()
        return pixels(path).astype(int)

    first, last = drawn("a", *line), drawn("b", "--prompts", ENDS[1], "--seeds", 7)
    for weight, wanted in ((0, first), (1, last)):
        assert abs(drawn(f"w{weight}", *line, "--blend", ENDS[1], 7, weight) - wanted).max() <= 1
    middle = drawn("c", *line, "--blend", ENDS[1], 7, 0.5)
    assert min(abs(middle - end).max() for end in (first, last)) > 2
    with Image.open(next((tmp_path / "c").iterdir())) as picture:
        assert picture.info["blend"] == "0.5 to 'a green leaf' with seed 7"


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
    seeds = ("--lerp-seeds", 1, 2, 3)
    assert "--lerp-seeds has no effect on --lerp" in refused("--lerp", "a", "b", 2, *seeds)
    assert "--seeds has no effect on --lerp-seeds" in refused(*seeds, "--seeds", "4")
    assert "no prompt" in refused(*seeds)
    assert "--lerp-in: needs --lerp" in refused("--prompts", "a", "--lerp-in", "codes")
    weights = ("--lerp-in", "weights")
    assert "eidgan cannot interpolate weights, because its lines" in refused(
        "--prompts", "a", *seeds, *weights
    )
    assert "no prompt" in refused("--prompts", "a", "--blend", "", 1, 0.5)
    assert "--blend has no effect on --lerp" in refused("--lerp", "a", "b", 2, "--blend", "a", 1, 0)
    assert "2<=x<=10000" in invoke("--lerp", "a", "b", 1, code=2).stderr
    creps = tmp_path / "creps"
    Snapshot(preset("creps-tiny").build().eval(), "hashed", 16).save_pretrained(creps)
    assert "networks of the system creps have one style code" in refused(*mix, network=creps)


def test_files_tell_every_edit_from_every_other(tmp_path):
    """An unfinished huge picture goes on under the same facts alone."""
    options = [
        {},
        {"mix": 9},
        {"mix": 8},
        {"mix": 9, "mix_codes": "0-1"},
        {"blend": (ENDS[0], 3, 0.5)},
        {"lerp": (*ENDS, 3)},
        {"lerp_seeds": (4, 7, 3)},
        {"lerp_seeds": (4, 7, 3), "lerp_in": "inputs"},
    ]
    facts = [EditOptions(**option).facts() for option in options]
    for content in (b"one", b"two"):
        (tmp_path / "codes").write_bytes(content)
        facts.append(EditOptions(codes=str(tmp_path / "codes")).facts())
        np.save(tmp_path / "field.npy", np.zeros((len(facts), 2, 2), np.float32))
        facts.append(ViewOptions(warp=str(tmp_path / "field.npy")).facts())
    assert len({str(fact) for fact in facts}) == len(facts)


def test_the_picture_says_which_codes_were_mixed(invoke):
    (path,) = invoke("--prompts", ENDS[0], "--mix", 9, "--mix-codes", "0").stdout.splitlines()
    with Image.open(path) as picture:
        assert picture.info["mix"] == "style codes 0: seed 9"
