"""`TextFeatures`: noise on the sentence, in training by the batch and in sampling by the seed."""

import math
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import generate
from metrics.pictures.generator_subject import GeneratorSubject
from networks.coordinates import View
from networks.generators import preset
from networks.interfaces import TextFeatures
from networks.sampling import iterate_images
from networks.snapshot import Snapshot
from networks.text_encoders import load_encoder


@pytest.mark.parametrize("noise", [0.0, 0.75])
def test_perturbed_sentences_keep_their_length_and_turn_by_the_noise(noise):
    """The noise is at a right angle to each sentence, so the cosine is 1 / sqrt(1 + noise^2)."""
    sentences, normal = torch.eye(4, 8) * 3, torch.eye(4, 8).roll(4, dims=1) * 5
    text = TextFeatures(sentences, torch.zeros(4, 1, 8), torch.ones(4, 1, dtype=torch.bool))
    perturbed = text.perturbed(normal, noise)
    torch.testing.assert_close(perturbed.sentence.norm(dim=1), torch.full((4,), 3.0))
    torch.testing.assert_close(
        torch.cosine_similarity(perturbed.sentence, sentences),
        torch.full((4,), 1 / math.sqrt(1 + noise**2)),
    )
    assert perturbed.words is text.words and perturbed.mask is text.mask


def pictures(generator, seeds, **options):
    prompts = ["a red apple"] * len(seeds)
    stream = iterate_images(
        generator, load_encoder("hashed"), prompts, seeds, View.square(8), **options
    )
    return torch.stack([sample.image for sample in stream])


def test_sampling_draws_the_noise_of_the_config_by_the_seed():
    torch.manual_seed(0)
    plain = preset("eidgan-tiny").build().eval()
    noisy = replace(plain.config, text_noise=0.5).build().eval()
    noisy.load_state_dict(plain.state_dict())
    exact, moved = pictures(plain, [3, 4]), pictures(noisy, [3, 4])
    assert (exact - moved).abs().amax(dim=(1, 2, 3)).min() > 1e-4
    torch.testing.assert_close(moved[1:], pictures(noisy, [4]))
    torch.testing.assert_close(exact, pictures(noisy, [3, 4], text_noise=0.0))
    torch.testing.assert_close(moved, pictures(plain, [3, 4], text_noise=0.5))


def test_truncation_scales_the_noise():
    torch.manual_seed(0)
    generator = preset("eidgan-tiny").build().eval()
    options = {"truncation": 0.0, "center": "global"}
    torch.testing.assert_close(
        pictures(generator, [3], **options), pictures(generator, [3], text_noise=0.5, **options)
    )


def test_files_and_records_name_the_noise_of_the_config(tmp_path):
    torch.manual_seed(0)
    generator = replace(preset("eidgan-tiny").build().config, text_noise=0.5).build()
    Snapshot(generator, "hashed", 16).save_pretrained(tmp_path / "s")
    snapshot = Snapshot.from_pretrained(tmp_path / "s")
    subject = GeneratorSubject(snapshot.generator, None, "hashed", 16)
    assert subject.identity()["text_noise"] == 0.5
    arguments = ["--network", str(tmp_path / "s"), "--prompts", "a red apple", "--outdir"]
    result = CliRunner().invoke(generate.main, [*arguments, str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    with Image.open(next((tmp_path / "out").glob("*.png"))) as picture:
        assert picture.info["text_noise"] == "0.5"
