from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators import preset
from networks.sampling import iterate_images, noise_length, tile_shape
from networks.snapshot import Snapshot
from networks.snapshot_folders import find_snapshot
from networks.text_encoders import load_encoder
from torch_utils.tensors import to_uint8

PROMPTS = [
    "a red apple",
    "the flag of Chad",
    "a cat",
    "a very long sentence about a blue bird on a green branch",
    "dog",
]


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return preset("eidgan-tiny").build().eval()


@pytest.fixture
def snapshot(generator, tmp_path):
    Snapshot(generator, "hashed", 16).save_pretrained(tmp_path / "s")
    return tmp_path / "s"


def draw(generator, prompts, seeds, **options):
    stream = iterate_images(
        generator, load_encoder("hashed"), prompts, seeds, View(height=11, width=17), **options
    )
    return stream, list(stream)


def test_picture_depends_on_its_own_seed_and_prompt_only(generator):
    stream, whole = draw(generator, PROMPTS, [5, 6, 7, 8, 9])
    assert len(stream) == len(whole) == 5
    for options in ({"batch_size": 1}, {"batch_size": 3}, {"tile_px": 13}):
        _, other = draw(generator, PROMPTS, [5, 6, 7, 8, 9], **options)
        for a, b in zip(whole, other, strict=True):
            assert (a.seed, a.prompt) == (b.seed, b.prompt) and (
                a.image - b.image
            ).abs().max() < 1e-5
    _, alone = draw(generator, PROMPTS[3:4], [8], truncation=0.7)
    _, among = draw(generator, PROMPTS, [5, 6, 7, 8, 9], truncation=0.7)
    assert (alone[0].image - among[3].image).abs().max() < 1e-5
    assert (alone[0].image - whole[3].image).abs().max() > 1e-3


def test_a_stream_can_be_drained_twice_and_leaves_global_state_alone(generator):
    before = torch.get_rng_state()
    stream, first = draw(generator, PROMPTS, range(5))
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, stream, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "height, width, limit", [(10, 10, 100), (10, 10, 35), (10, 10, 7), (3, 1000, 64)]
)
def test_tiles_keep_their_limit(height, width, limit):
    rows, columns = tile_shape(height, width, limit)
    assert 1 <= rows <= height and 1 <= columns <= width
    assert rows * columns <= limit


def test_a_snapshot_draws_one_picture(snapshot, tmp_path):
    loaded, window = Snapshot.from_pretrained(snapshot), (-0.5, 0.0, 1.5, 1.0)
    picture = loaded.draw("a cat", 7, width=24, height=12, window=window)
    view = View(width=24, height=12, box=window)
    [sample] = iterate_images(loaded.generator, load_encoder("hashed"), ["a cat"], [7], view)
    expected = to_uint8(sample.image).permute(1, 2, 0).numpy()
    assert picture.mode == "RGB" and np.array_equal(np.array(picture), expected)
    assert loaded.draw("a cat").size == (16, 16)
    with pytest.raises(UserError, match="prompt: is missing"):
        loaded.draw()
    bare = replace(preset("eidgan-tiny"), sentence_dim=0, word_dim=0)
    textless = Snapshot(bare.build().eval(), "", 16)
    assert textless.draw(seed=3).size == (16, 16)
    with pytest.raises(UserError):
        textless.draw(width=0)
    with pytest.raises(UserError, match="trained without text; leave it out"):
        textless.draw("a cat")
    with pytest.raises(UserError, match="at most 65536 pixels a side"):
        textless.draw(width=1 << 20)


def test_newest_snapshot_of_a_run(generator, tmp_path):
    for kimg in ("000000", "000005", "999999", "1000000", "best"):
        Snapshot(generator, "hashed", 16).save_pretrained(tmp_path / f"network-snapshot-{kimg}")
    assert find_snapshot(tmp_path).name == "network-snapshot-1000000"
    assert find_snapshot(tmp_path / "network-snapshot-000005").name == "network-snapshot-000005"


def break_json(folder):
    (folder / "config.json").write_text("{")


def drop_config(folder):
    (folder / "config.json").unlink()


def drop_weights(folder):
    (folder / "model.safetensors").unlink()


def text_as_weights(folder):
    (folder / "model.safetensors").write_text(
        "these are not weights, but a text file of some length"
    )


def cut_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def diverged(folder):
    weights = load_file(folder / "model.safetensors")
    weights["tokens_mean"] = weights["tokens_mean"] * float("nan")
    (folder / "model.safetensors").write_bytes(save(weights))


def edit(change):
    def apply(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return apply


@pytest.mark.parametrize(
    "damage, message",
    [
        (break_json, "config.json is not valid JSON"),
        (drop_config, "config.json does not exist"),
        (drop_weights, "model.safetensors does not exist"),
        (text_as_weights, "is not a safetensors file"),
        (cut_weights, "is not a safetensors file"),
        (diverged, "'tokens_mean' is not finite"),
        (edit(lambda c: c.pop("resolution")), "no field 'resolution'"),
        (edit(lambda c: c.update(format=99)), "format 99"),
        (edit(lambda c: c.update(resolution="x")), "'resolution' must be of type int"),
        (edit(lambda c: c.update(generator=5)), "'generator' must be of type dict"),
        (edit(lambda c: c["generator"].update(kind=3)), "unknown generator '3'"),
        (edit(lambda c: c["generator"].update(kind="eidgam")), "did you mean 'eidgan'"),
        (edit(lambda c: c["generator"].update(thicknes=3)), "did you mean 'thickness'"),
        (edit(lambda c: c["generator"].update(features=16)), "config.json asks for"),
        (edit(lambda c: c["generator"].update(spectral=False)), "is unknown"),
    ],
)
def test_damaged_snapshots_are_named(snapshot, damage, message):
    damage(snapshot)
    with pytest.raises(UserError, match=message):
        Snapshot.from_pretrained(snapshot)


def test_another_text_encoder_than_in_training_is_refused(generator, tmp_path):
    Snapshot(generator, "hashed", 16, encoder_id="hashed-64-v1").save_pretrained(tmp_path / "s")
    assert Snapshot.from_pretrained(tmp_path / "s").load_encoder().id == "hashed-64-v1"
    with pytest.raises(
        UserError,
        match=r"has other weights here \(hashed-64-v1\) than in training \(hashed-64-v0\)",
    ):
        Snapshot(generator, "hashed", 16, encoder_id="hashed-64-v0").load_encoder()
    with pytest.raises(UserError, match="its sentence_dim is 64, the generator's 32"):
        Snapshot(replace(generator.config, sentence_dim=32).build(), "hashed", 16).load_encoder()


def test_missing_and_wrong_paths(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        find_snapshot(tmp_path / "nothing")
    with pytest.raises(UserError, match="neither config.json"):
        find_snapshot(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        find_snapshot(tmp_path / "file")


def test_noise_on_sentences_that_no_network_reads_is_refused():
    network = preset("eidgan-tiny").with_text(0, 0).build()
    assert noise_length(network, 1.0, 0.0) == 0
    with pytest.raises(UserError, match="--text-noise: this network was trained without text"):
        noise_length(network, 1.0, 0.5)
