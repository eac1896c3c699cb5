"""`train.py --dry-run` knows the final config, but builds no text encoder and reads no weights."""

from __future__ import annotations

import json

import open_clip
import pytest
from click.testing import CliRunner

from networks.text_encoders import hashed, open_clip_encoder, open_clip_weights, small
from train import main


@pytest.fixture
def no_encoder(monkeypatch):
    """Whatever builds an encoder, a tokenizer or a model of open_clip fails the test."""

    def built(*arguments, **options):
        pytest.fail("an encoder was built")

    monkeypatch.setattr(hashed.HashedEncoder, "__init__", built)
    monkeypatch.setattr(open_clip_encoder.OpenClipEncoder, "__init__", built)
    for module, names in (
        (small, ("build_towers", "load_minilm", "MiniLMTokenizer", "load_heads")),
        (open_clip_weights, ("create_tokenizer", "check_checkpoint")),
        (open_clip, ("create_model", "CustomTextCLIP", "CLIP", "get_tokenizer")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, built)


def dry_run(*flags):
    done = CliRunner().invoke(main, ["--outdir", "x", "-n", *flags])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "encoder,sentence,words",
    [
        ("small", 256, 384),
        ("small-heldout", 256, 384),
        ("hashed", 64, 64),
        ("open_clip", 512, 512),
        ("open_clip:ViT-L-14/openai", 768, 768),
        ("open_clip:coca_ViT-B-32/laion2b_s13b_b90k", 512, 512),
    ],
)
def test_a_dry_run_builds_no_encoder(no_encoder, encoder, sentence, words):
    config = dry_run("--recipe", "eidgan-coco256", "--set", f"text_encoder={encoder}")
    assert (
        config["generator"]["sentence_dim"] == config["discriminator"]["sentence_dim"] == sentence
    )
    assert config["generator"]["word_dim"] == words


def test_the_dry_run_of_a_recipe_without_text_needs_no_encoder(no_encoder):
    config = dry_run("--recipe", "eidgan-coco256", "--cond", "false", "--set", "text_encoder=none")
    assert config["generator"]["sentence_dim"] == config["discriminator"]["sentence_dim"] == 0


@pytest.mark.parametrize("flag", ["--dry-run", "--estimate-memory"])
def test_what_a_new_run_refuses_is_refused(tmp_path, flag):
    flags = ["--outdir", str(tmp_path), "--recipe", "eidgan-coco256", "--aug", "fixed", flag]
    done = CliRunner().invoke(main, flags)
    assert done.exit_code == 1 and "augment.p: is 0" in done.output
