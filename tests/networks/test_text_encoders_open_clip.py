"""open_clip models as encoders, with tiny random models in local files; nothing is downloaded."""

from __future__ import annotations

import json
import logging
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from dnnlib.errors import UserError
from networks.text_encoders import encoder_widths, load_encoder

TINY: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
}
COCA = {
    "embed_dim": 24,
    "vision_cfg": TINY["vision_cfg"]
    | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": TINY["text_cfg"] | {"context_length": 76, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {
        "context_length": 76,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
    "custom_text": True,
}
CONFIGS = {
    "eidgan-tiny": TINY,
    "eidgan-tiny-quickgelu": TINY | {"quick_gelu": True},
    "eidgan-tiny-custom": TINY | {"custom_text": True},
    "eidgan-tiny-coca": COCA,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights of every tiny model as a safetensors file, by model name."""
    folder = tmp_path_factory.mktemp("open_clip")
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    logging.disable(logging.WARNING)
    paths = {}
    for name in CONFIGS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.create_model(name)
        for parameter in model.parameters():  # large enough for visible effects of order and masks
            parameter.data.mul_(2)
        paths[name] = folder / f"{name}.safetensors"
        save_file(
            {key: value.contiguous().clone() for key, value in model.state_dict().items()},
            paths[name],
        )
    logging.disable(logging.NOTSET)
    return paths


@pytest.fixture(scope="module")
def clip(files):
    return load_encoder(f"open_clip:eidgan-tiny-quickgelu/{files['eidgan-tiny-quickgelu']}")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_model_class_gives_features_and_gradients(files, name):
    encoder: Any = load_encoder(f"open_clip:{name}/{files[name]}")
    text = encoder.encode_text(["a small bird", "a red bus at night"])
    assert text.sentence.shape == (2, 24) == (2, encoder.sentence_dim)
    assert text.words.shape == (2, 7, 32) and encoder.word_dim == 32
    assert text.mask.sum(1).tolist() == [5, 7]
    images = torch.rand(2, 3, 20, 50, requires_grad=True)
    encoder.encode_image(images).square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert not any(p.requires_grad or p.grad is not None for p in encoder.model.parameters())


def test_words_are_the_output_of_the_last_but_one_block(clip):
    tower = clip.model
    captions = ["a red apple", "two dogs under a table"]
    tokens = open_clip.tokenize(captions)
    x = tower.token_embedding(tokens) + tower.positional_embedding
    for block in tower.transformer.resblocks[:2]:
        x = block(x, attn_mask=tower.attn_mask)
    text = clip.encode_text(captions)
    torch.testing.assert_close(text.words, x[:, : text.words.shape[1]].detach())
    last = tower.ln_final(tower.transformer.resblocks[2](x, attn_mask=tower.attn_mask))
    sentence = last[torch.arange(2), tokens.argmax(1)] @ tower.text_projection
    torch.testing.assert_close(text.sentence, sentence.detach())


def test_a_custom_text_tower_gives_the_same_as_clip(files):
    """Same weights under both classes: same features, so both code paths find the same layer."""
    clip = load_encoder(f"open_clip:eidgan-tiny/{files['eidgan-tiny']}")
    custom = load_encoder(f"open_clip:eidgan-tiny-custom/{files['eidgan-tiny']}")
    ours, theirs = clip.encode_text(["a green leaf"]), custom.encode_text(["a green leaf"])
    torch.testing.assert_close(ours.words, theirs.words)
    torch.testing.assert_close(ours.sentence, theirs.sentence)


def test_a_caption_is_the_same_alone_and_beside_longer_ones(clip):
    alone = clip.encode_text(["a bird"])
    beside = clip.encode_text(
        ["a bird", "a long caption about a train that waits at a station in the rain"]
    )
    length = alone.words.shape[1]
    torch.testing.assert_close(alone.sentence, beside.sentence[:1], atol=1e-5, rtol=0)
    torch.testing.assert_close(alone.words, beside.words[:1, :length], atol=1e-5, rtol=0)
    assert beside.mask[0].tolist() == [True] * length + [False] * (beside.mask.shape[1] - length)


@pytest.mark.parametrize("name", CONFIGS)
def test_widths_are_known_before_the_weights(files, name):
    encoder = load_encoder(f"open_clip:{name}/{files[name]}")
    widths = encoder.sentence_dim, encoder.word_dim
    assert encoder_widths(f"open_clip:{name}/no-such-weights") == widths == (24, 32)
    assert encoder_widths("open_clip") == (512, 512)


def test_widths_of_a_hugging_face_text_model_come_from_its_configuration(tmp_path, files):
    """The width is in the Hugging Face folder, which has no weights, and not in open_clip."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mt5", "d_model": 48}))
    text = {"hf_model_name": str(tmp_path), "hf_pooler_type": "mean_pooler"}
    model = {"embed_dim": 24, "vision_cfg": TINY["vision_cfg"], "text_cfg": text}
    (tmp_path / "eidgan-tiny-hf.json").write_text(json.dumps(model))
    open_clip.add_model_config(tmp_path / "eidgan-tiny-hf.json")
    assert encoder_widths("open_clip:eidgan-tiny-hf/x") == (24, 48)


def test_a_configuration_that_cannot_be_had_is_named_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("networks.text_encoders.open_clip_weights.cached_file", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="config.json of the text model xlm-roberta-base .*copy"):
        encoder_widths("open_clip:xlm-roberta-base-ViT-B-32/x")


@pytest.mark.parametrize(
    "spec,words",
    [
        ("open_clip:VIT-B-32/x", "no model 'VIT-B-32'"),
        ("smal", "did you mean 'small'"),
        ("open_clip:", "unknown"),
    ],
)
def test_widths_of_an_unknown_encoder(spec, words):
    with pytest.raises(UserError, match=words):
        encoder_widths(spec)


def test_a_long_caption_keeps_its_end_of_text_token(clip):
    long = "bird " * 200
    tokens = clip.tokenizer([long])
    assert tokens.shape == (1, 77) and tokens[0, -1] == tokens.max() == 49407
    text = clip.encode_text([long, ""])
    assert text.mask.sum(1).tolist() == [77, 2]  # the empty caption: start and end of text


def test_text_features_may_enter_a_later_autograd_graph(clip):
    text = clip.encode_text(["a bird"])
    assert not text.sentence.requires_grad
    weight = torch.ones(32, requires_grad=True)
    (text.words * weight).sum().backward()
    assert weight.grad is not None


def test_pictures_are_normalised_as_the_model_expects(clip):
    with torch.no_grad():
        images = torch.rand(2, 3, 32, 32) * 2 - 1
        mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
        std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
        expected = clip.model.encode_image(((images + 1) / 2 - mean) / std)
        torch.testing.assert_close(clip.encode_image(images), expected)


def test_pictures_of_any_size_are_resized_and_cropped_in_the_middle(clip):
    with torch.no_grad():
        image = torch.rand(1, 3, 32, 32) * 2 - 1
        wide = torch.cat([torch.ones(1, 3, 32, 9), image, -torch.ones(1, 3, 32, 9)], dim=3)
        torch.testing.assert_close(clip.encode_image(wide), clip.encode_image(image))
        flat = torch.full((1, 3, 131, 64), 0.25)  # shrinking and enlarging keep a constant constant
        torch.testing.assert_close(
            clip.encode_image(flat),
            clip.encode_image(torch.full((1, 3, 8, 8), 0.25)),
            atol=1e-5,
            rtol=1e-4,
        )


def test_features_are_float32_in_a_training_step_in_bf16(clip):
    images, captions = torch.rand(2, 3, 32, 32, requires_grad=True), ["a red apple", "two dogs"]
    exact_text, exact_image = clip.encode_text(captions), clip.encode_image(images).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        text, image = clip.encode_text(captions), clip.encode_image(images)
    assert {text.sentence.dtype, text.words.dtype, image.dtype} == {torch.float32}
    assert not torch.equal(text.words, exact_text.words)  # so bf16 was used
    for ours, exact in ((text.sentence, exact_text.sentence), (image.detach(), exact_image)):
        assert torch.nn.functional.cosine_similarity(ours, exact).min() > 0.99
    image.sum().backward()
    assert images.grad.dtype == torch.float32 and images.grad.abs().sum() > 0


def test_the_id_follows_the_weights_not_the_file_name(files, tmp_path):
    name = "eidgan-tiny-quickgelu"
    first: Any = load_encoder(f"open_clip:{name}/{files[name]}")
    state = dict(first.model.state_dict())
    torch.save(state, tmp_path / "copy.pt")
    assert load_encoder(f"open_clip:{name}/{tmp_path / 'copy.pt'}").id == first.id
    state["logit_scale"] = state["logit_scale"] + 1
    torch.save(state, tmp_path / "other.pt")
    other = load_encoder(f"open_clip:{name}/{tmp_path / 'other.pt'}")
    assert other.id != first.id and str(tmp_path) not in other.id


def test_a_name_without_its_quickgelu_twin_warns_or_refuses(files, tmp_path, capsys):
    path = files["eidgan-tiny"]
    load_encoder(f"open_clip:eidgan-tiny/{path}")
    assert "use open_clip:eidgan-tiny-quickgelu/" in capsys.readouterr().err
    copy = tmp_path / "openai.safetensors"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="silently wrong; use open_clip:eidgan-tiny-quickgelu/"):
        load_encoder(f"open_clip:eidgan-tiny/{copy}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("open_clip:ViT-B-32/openai", "use open_clip:ViT-B-32-quickgelu/openai"),
        ("open_clip:ViT-B-32-quickgelu/laion400m_e31x", "did you mean 'laion400m_e31'"),
        ("open_clip:ViT-B-23/openai", "did you mean 'ViT-B-32'"),
        ("open_clip:ViT-B-32", "weights are missing"),
        ("open_clip:", "unknown"),
        ("smal", "did you mean 'small'"),
        ("smal:x", "unknown"),
    ],
)
def test_a_wrong_spec_is_named_with_its_nearest(spec, message):
    with pytest.raises(UserError, match=message):
        load_encoder(spec)


def test_offline_without_weights_says_what_to_fetch_where(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        load_encoder("open_clip")
    for part in (
        "ViT-B-32-quickgelu/openai",
        "machine with network",
        "python -c",
        "$HF_HOME",
        "open_clip:ViT-B-32-quickgelu/FILE",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


class _Evil:
    def __reduce__(self):
        return (print, ("code ran while loading",))


def test_files_that_are_no_checkpoint_are_refused_without_running_code(files, tmp_path, capsys):
    cases = {
        "text.safetensors": b"hello, this is text",
        "text.pt": b"hello, this is text",
        "empty.pt": b"",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"weights": _Evil()}, tmp_path / "evil.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in (*cases, "evil.pt", "list.pt"):
        with pytest.raises(UserError, match=name):
            load_encoder(f"open_clip:eidgan-tiny-quickgelu/{tmp_path / name}")
    assert "code ran" not in capsys.readouterr().out
    with pytest.raises(
        UserError, match="does not hold the weights of open_clip model eidgan-tiny-coca"
    ):
        load_encoder(f"open_clip:eidgan-tiny-coca/{files['eidgan-tiny']}")
