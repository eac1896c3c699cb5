"""MiniLM and its tokenizer against the classes of transformers and open_clip."""

from __future__ import annotations

import pytest
import torch

from dnnlib.errors import UserError
from networks.text_encoders import load_encoder, small
from networks.text_encoders.minilm import MiniLMTokenizer, load_minilm, minilm_folder
from networks.text_encoders.open_clip_encoder import OpenClipTextEncoder
from tests.explorer.test_wordpiece import CAPTIONS

TEXTS = [*CAPTIONS, "&amp;lt; html &eacute;", "a\x1b[31m red", "\ufb01sh", "sch\u00c3\u00b6n"]


@pytest.fixture(scope="module")
def ids():
    return MiniLMTokenizer()(TEXTS)


@pytest.mark.slow
def test_ids_and_every_layer_equal_those_of_the_libraries(ids):
    from open_clip.tokenizer import HFTokenizer
    from transformers import AutoModel

    folder = str(minilm_folder())
    tokenizer = HFTokenizer(folder, context_length=77)
    assert torch.equal(ids, tokenizer(TEXTS))
    assert torch.equal(MiniLMTokenizer()(TEXTS, context_length=9), tokenizer(TEXTS, 9))
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    mask = ids != 0
    with torch.no_grad():
        expected = model(ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
        states = load_minilm(torch.nn.Identity()).transformer(ids, mask)
    assert len(states) == len(expected) == 7
    for ours, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-5, rtol=1e-5)


def test_the_mean_token_counts_no_padding(ids):
    tower = load_minilm(torch.nn.Identity())
    with torch.no_grad():
        (last,) = tower.transformer(ids[:1, :5])[-1:]  # without padding and without mask
        torch.testing.assert_close(tower(ids[:1]), last.mean(dim=1), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(tower(ids[:1]), tower(ids[2:3]), atol=0.1)


def test_the_weights_stay_in_their_file():
    """Nothing may write to them, and the memory of a process does not hold a copy."""
    folder = minilm_folder()
    tower = load_minilm(torch.nn.Identity())
    start = tower.transformer.embeddings.word_embeddings.weight.data_ptr()
    with open("/proc/self/maps", encoding="utf-8") as maps:
        ranges = [line.split()[0].split("-") for line in maps if f"{folder}/model.saf" in line]
    assert any(int(low, 16) <= start < int(high, 16) for low, high in ranges)


@pytest.mark.slow
@pytest.mark.parametrize("name", small.SPECS)
def test_without_the_image_tower_features_and_id_are_the_same(name):
    whole, part = small.load_small(name), load_encoder(name, images=False)
    assert isinstance(part, OpenClipTextEncoder) and not hasattr(part, "encode_image")
    assert part.id == whole.id
    assert part.cut(TEXTS) == whole.cut(TEXTS)
    expected, text = whole.encode_text(TEXTS), part.encode_text(TEXTS)
    for field in ("sentence", "words", "mask"):
        assert torch.equal(getattr(text, field), getattr(expected, field))


def test_heads_that_are_not_those_of_the_record(tmp_path, monkeypatch):
    for kind in ("json", "safetensors"):
        name = "small" if kind == "json" else "small-heldout"
        content = (small.WEIGHTS_FOLDER / f"{name}.{kind}").read_bytes()
        (tmp_path / f"small.{kind}").write_bytes(content)
    monkeypatch.setattr(small, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(UserError, match="small.json beside it describes; restore both"):
        load_encoder("small", images=False)
