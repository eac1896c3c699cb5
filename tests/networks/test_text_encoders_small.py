"""The embedded dual encoders with the shipped heads, on real OpenMoji drawings rendered here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from dnnlib.errors import UserError
from dnnlib.files import sha256_of
from networks.interfaces import ImageTextEncoder, TextEncoder
from networks.text_encoders import encoder_widths, load_encoder, open_clip_encoder
from networks.text_encoders.exported_small import ExportedTextTower
from networks.text_encoders.small import (
    SPECS,
    WEIGHTS_FOLDER,
    ImageHead,
    assemble,
    load_heads,
    text_head,
)


@pytest.fixture(scope="module")
def small():
    return load_encoder("small")


@pytest.fixture(scope="module")
def unseen():
    """48 drawings of different test concepts at 64 x 64, as generators draw them, and names."""
    from datasets.openmoji import find_emojis, openmoji_pictures

    emojis, concepts = [], set()
    for emoji in find_emojis()[0]:
        if emoji.split == "test" and emoji.concept not in concepts:
            concepts.add(emoji.concept)
            emojis.append(emoji)
    emojis = emojis[:: len(emojis) // 48][:48]
    images = torch.stack(
        [torch.from_numpy(p.image).permute(2, 0, 1) for p in openmoji_pictures(emojis, (64, 64))]
    )
    return images / 127.5 - 1, [emoji.names[0] for emoji in emojis]


def test_the_protocol_and_the_dimensions(small):
    assert (small.sentence_dim, small.word_dim, small.input_px) == (256, 384, 96)
    assert isinstance(small, ImageTextEncoder)
    assert small.id.startswith("small@")
    text = small.encode_text(["a red apple", ""])
    assert text.sentence.shape == (2, 256) and text.words.dtype == torch.float32
    # [CLS] a red apple [SEP]
    assert text.mask.tolist() == [[True] * 5, [True, True, False, False, False]]


def test_captions_of_any_order_and_number_get_what_each_gets_alone(small, monkeypatch):
    """Batches hold captions of similar length; features return in the order of the captions."""
    monkeypatch.setattr(open_clip_encoder, "_BATCH_ON_CPU", 2)
    captions = [
        "a red apple",
        "",
        "the long leaf of a green plant in the rain",
        "bird",
        "a red apple",
    ]
    text = small.encode_text(captions)
    for row, caption in enumerate(captions):
        alone = small.encode_text([caption])
        used = text.mask[row]
        assert int(used.sum()) == alone.mask.shape[1]
        torch.testing.assert_close(text.sentence[row], alone.sentence[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(text.words[row, used], alone.words[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_shipped_heads_find_unseen_concepts_far_above_chance(name, unseen):
    encoder = load_encoder(name)
    assert isinstance(encoder, ImageTextEncoder)
    assert encoder_widths(name) == (encoder.sentence_dim, encoder.word_dim)
    images, names = unseen
    with torch.no_grad():
        pictures = torch.nn.functional.normalize(encoder.encode_image(images), dim=1)
    texts = torch.nn.functional.normalize(encoder.encode_text(names).sentence, dim=1)
    cosines = pictures @ texts.T
    own = cosines.diagonal()
    for better in (cosines > own[:, None], (cosines > own[None]).T):
        recall_at_5 = (better.sum(1) < 5).float().mean().item()
        assert recall_at_5 > 0.5  # chance 0.10
    mismatched = (cosines.sum() - own.sum()) / (len(own) * (len(own) - 1))
    assert own.mean() - mismatched > 0.2


@pytest.mark.parametrize("name", SPECS)
def test_the_record_beside_the_heads_names_script_seed_data_and_figures(name):
    record = json.loads((WEIGHTS_FOLDER / f"{name}.json").read_text())
    assert record["sha256"] == sha256_of(WEIGHTS_FOLDER / f"{name}.safetensors")
    assert record["encoder_id"].startswith(f"{name}@")
    assert (
        record["config"]["seed"] == SPECS[name].seed
        and "training.dual_encoder" in record["command"]
    )
    icons, flowers = record["data"]
    assert all(len(data["content_hash"]) == 64 for data in (icons, flowers))
    for size in ("native", "64px", "32px"):
        unseen = icons["unseen_concepts"][size]
        assert unseen["chance"]["R@5"] < 2 and unseen["image_to_text"]["R@5"] > 30
    unseen = flowers["unseen_concepts"]["64px"]
    assert unseen["text_to_image"]["R@10"] > 8 * unseen["chance"]["R@10"]


def test_teacher_and_scorer_share_neither_tower_nor_seed_nor_heads():
    small, heldout = SPECS["small"], SPECS["small-heldout"]
    assert small.image_tower != heldout.image_tower and small.seed != heldout.seed
    hashes = {json.loads((WEIGHTS_FOLDER / f"{name}.json").read_text())["sha256"] for name in SPECS}
    assert len(hashes) == 2


def test_words_are_hidden_states_minus_two(small):
    captions = ["a red apple", "two dogs under a wooden table"]
    tokens = small.tokenizer(captions)
    with torch.no_grad():
        states = small.model.text.transformer(tokens, tokens != 0)
    assert len(states) == 7  # embeddings and six layers
    text = small.encode_text(captions)
    length = text.words.shape[1]
    expected, ours = states[-2][:, :length], text.words
    torch.testing.assert_close(ours[text.mask], expected[text.mask], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours[text.mask], states[-1][:, :length][text.mask], atol=1e-2)


def test_a_caption_is_the_same_alone_and_beside_longer_ones(small):
    alone = small.encode_text(["a bird"])
    beside = small.encode_text(
        ["a bird", "a brown and light blue icon of a man walking facing right"]
    )
    length = alone.words.shape[1]
    torch.testing.assert_close(alone.sentence, beside.sentence[:1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone.words, beside.words[:1, :length], atol=1e-5, rtol=1e-5)
    assert beside.mask[0].sum() == length


def test_a_long_caption_is_cut_but_closed(small):
    text = small.encode_text(["bird " * 300])
    assert text.mask.sum() == 77
    assert small.tokenizer(["bird " * 300])[0, -1] == 102  # [SEP]


def test_gradient_reaches_pictures_of_any_size_and_no_weight(small):
    for size in ((32, 32), (200, 130)):
        images = (torch.rand(2, 3, *size) * 2 - 1).requires_grad_()
        small.encode_image(images).square().sum().backward()
        assert images.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in small.model.parameters())
    assert not small.model.training


@pytest.fixture
def own_heads(tmp_path):
    """Heads of `small` in a user's folder, with biases that differ from the shipped ones."""
    tensors = load_file(WEIGHTS_FOLDER / "small.safetensors")
    tensors["text.5.bias"] = tensors["text.5.bias"] + 1
    heads = tmp_path / "small.safetensors"
    save_file(tensors, heads)
    image, text = ImageHead(), text_head()
    load_heads(heads, image, text)
    record = {
        "encoder": "small",
        "sha256": sha256_of(heads),
        "encoder_id": assemble("small", image, text).id,
    }
    heads.with_suffix(".json").write_text(json.dumps(record))
    return heads


def test_an_encoder_takes_the_heads_of_a_file(own_heads, small):
    spec = f"small:{own_heads}"
    whole, text_only = load_encoder(spec), load_encoder(spec, images=False)
    assert whole.id == text_only.id != small.id
    assert encoder_widths(spec) == encoder_widths("small")
    expected = small.encode_text(["a bird"]).sentence + 1
    for encoder in (whole, text_only):
        found = encoder.encode_text(["a bird"]).sentence
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)  # heads are fp16


def test_heads_of_a_file_that_do_not_fit_are_refused(own_heads):
    with pytest.raises(UserError, match=f"not of small-heldout; name it as small:{own_heads}"):
        load_encoder(f"small-heldout:{own_heads}")
    with pytest.raises(UserError, match=r"none\.safetensors does not exist; make both with"):
        load_encoder(f"small:{own_heads.with_name('none.safetensors')}")
    record = own_heads.with_suffix(".json")
    whole = record.read_text()
    record.write_text(whole.replace("sha256", "hash"))
    with pytest.raises(UserError, match=r"small\.json, the record of small\.safetensors, is no"):
        load_encoder(f"small:{own_heads}")
    record.write_text(whole)
    (own_heads.parent / "small.safetensors").write_bytes(b"changed")
    with pytest.raises(UserError, match="is not the file that"):
        load_encoder(f"small:{own_heads}", images=False)
    for spec in ("small:", "hashed:x"):
        with pytest.raises(UserError, match="is unknown"):
            load_encoder(spec)


def test_heads_files_that_hold_something_else(tmp_path):
    heads = ImageHead(), text_head()
    (tmp_path / "small.safetensors").write_text("hello")
    with pytest.raises(UserError, match="does not hold the heads"):
        load_heads(tmp_path / "small.safetensors", *heads)


def test_hashed_is_text_only_and_knows_words_not_order():
    hashed = load_encoder("hashed")
    assert encoder_widths("hashed") == (hashed.sentence_dim, hashed.word_dim)
    assert isinstance(hashed, TextEncoder) and not isinstance(hashed, ImageTextEncoder)
    text = hashed.encode_text(["A red bird!", "bird red a", "", "blue"])
    assert text.words.shape == (4, 4, hashed.word_dim)
    assert text.mask.sum(1).tolist() == [4, 4, 1, 2]
    torch.testing.assert_close(text.sentence[0], text.sentence[1])
    torch.testing.assert_close(text.words[text.mask].norm(dim=1), torch.ones(11))
    assert (text.words[~text.mask] == 0).all()
    # The vectors are part of every debug snapshot: they may never change.
    assert text.words[3, 0, :3].tolist() == pytest.approx(
        [0.0917466, -0.0006159, 0.3369105], abs=1e-6
    )


@pytest.mark.slow
def test_encoders_load_with_our_datasets_package_in_front_and_without_network():
    """The project's `datasets` shadows the one that transformers looks for. No network is used."""
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import networks.text_encoders as t\n"
        "heavy = {'torch', 'open_clip', 'timm', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import datasets; assert hasattr(datasets, '__path__')\n"
        "assert 'site-packages' not in str(datasets.__path__)\n"
        "e = t.load_encoder('small-heldout')\n"
        "print(e.encode_text(['a bird']).sentence.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([1, 256])"
    assert "Loading weights" not in done.stderr and "LOAD REPORT" not in done.stderr


@pytest.mark.slow
def test_the_text_tower_of_a_web_page_reads_almost_the_same(small):
    tower = ExportedTextTower(small)
    integers = [x for name, x in tower.named_buffers() if name.endswith("integers")]
    assert sum(x.numel() for x in integers) > 22e6
    with torch.no_grad():
        for prompt in ("a red flower", "this bird is blue, with a long beak and short wings"):
            text = small.encode_text([prompt])
            ids = small.tokenizer([prompt])[:, : text.words.shape[1]]
            sentence, words = tower(ids)
            assert torch.cosine_similarity(sentence, text.sentence).item() > 0.999
            assert (words - text.words).norm() < 0.04 * text.words.norm()
            assert not torch.equal(words, text.words)  # it was rounded
