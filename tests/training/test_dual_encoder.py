"""Training of the heads of the small dual encoders: loss, retrieval, draws, and the command."""

from __future__ import annotations

import json
import math

import pytest
import torch
from click.testing import CliRunner

from networks.text_encoders.colours import NUM_SHARES
from torch_utils.rng import generator_for
from training.dual_encoder import (
    HeadTraining,
    Lessons,
    concept_groups,
    evaluate,
    info_nce,
    main,
    retrieval,
    train_heads,
)
from training.tower_features import TowerFeatures, make_variant


@pytest.fixture(scope="module")
def synthetic():
    """40 concepts whose image and text features are noisy linear maps of one hidden vector."""
    rng = generator_for("synthetic towers")
    hidden = torch.randn(40, 8, generator=rng)
    width = 1280 + NUM_SHARES
    images = hidden @ torch.randn(8, width, generator=rng)
    images = images + 0.1 * torch.randn(6, 40, width, generator=rng)
    texts = hidden @ torch.randn(8, 384, generator=rng)
    features = TowerFeatures(
        images, torch.cat([texts, texts + 0.1]), [[i, 40 + i] for i in range(40)]
    )
    return Lessons(features, [[i] for i in range(40)])


def test_info_nce_against_a_hand_written_value():
    """Pairs are orthogonal, so the logits are `scale` on the diagonal and 0 elsewhere."""
    pairs = 5 * torch.eye(4)
    expected = -math.log(math.exp(3) / (math.exp(3) + 3))
    assert info_nce(pairs, 2 * pairs, torch.tensor(3.0)).item() == pytest.approx(expected, rel=1e-5)
    uniform = torch.ones(8, 3)
    assert info_nce(uniform, uniform, torch.tensor(50.0)).item() == pytest.approx(
        math.log(8), rel=1e-5
    )


def test_retrieval_counts_both_directions():
    images = torch.eye(12)
    texts = torch.eye(12)
    # Caption 0 equals caption 1, so picture 1 is nearer to it than picture 0. For picture 0, no
    # caption is nearer than caption 0: all cosines are 0.
    texts[0] = texts[1]
    figures = retrieval(images, texts)
    recall = figures["image_to_text"]
    assert recall["R@1"] == recall["R@5"] == pytest.approx(100.0)
    assert figures["text_to_image"] == {"R@1": 91.7, "R@5": 100.0, "R@10": 100.0}
    assert figures["chance"]["R@5"] == pytest.approx(41.67)
    assert figures["cosine_matched"] == pytest.approx(11 / 12, abs=1e-3)
    assert figures["cosine_mismatched"] == pytest.approx(1 / 132, abs=1e-3)


def test_concepts_group_skin_tones_and_leave_other_ids_alone():
    assert concept_groups(["1F44B", "1F34E", "1F44B-1F3FD", "photo-7"]) == [[0, 2], [1], [3]]


@pytest.mark.slow
def test_heads_learn_repeatably_and_leave_the_global_stream_alone(synthetic):
    config = HeadTraining(seed=3, steps=60, batch=32)
    before = torch.get_rng_state()
    heads = train_heads([synthetic], config)
    assert torch.equal(torch.get_rng_state(), before)
    figures = evaluate(synthetic, heads)["32px"]
    assert figures["text_to_image"]["R@1"] > 80
    assert figures["cosine_matched"] > figures["cosine_mismatched"] + 0.4
    again = train_heads([synthetic], config)
    first, second = (pair[0].state_dict().values() for pair in (heads, again))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_batch_comes_of_one_data_set_in_turn(synthetic, monkeypatch):
    others, turns = Lessons(synthetic.features, synthetic.groups[:20]), []

    def drawn(lessons, config, rng):
        turns.append(len(lessons.groups))
        return draw(lessons, config, rng)

    draw = Lessons.draw
    monkeypatch.setattr(Lessons, "draw", drawn)
    train_heads([synthetic, others], HeadTraining(seed=0, steps=3, batch=8))
    assert turns == [40, 20] * 3


def test_variants_shrink_move_and_repeat():
    image = -torch.ones(2, 3, 128, 128)
    image[:, :, 40:90, 40:90] = 1
    sizes = [make_variant(image, v, generator_for(v)).shape[-1] for v in range(6)]
    assert sizes == [128, 64, 32, 32, 48, 64]
    assert torch.equal(make_variant(image, 0, generator_for(0)), image)
    moved = make_variant(image, 6, generator_for(6))
    assert moved.shape == image.shape and moved.abs().max() <= 1
    assert not torch.allclose(moved[0], moved[1])
    assert torch.equal(moved, make_variant(image, 6, generator_for(6)))


@pytest.mark.slow
def test_the_command_writes_heads_that_load_and_a_record(tmp_path):
    from datasets.archive import write_archive
    from datasets.openmoji import find_emojis, openmoji_info, openmoji_pictures
    from networks.text_encoders import load_encoder

    emojis, unnamed = find_emojis(20)
    write_archive(
        tmp_path / "d.zip",
        openmoji_pictures(emojis, (32, 32)),
        (32, 32),
        openmoji_info(emojis, unnamed),
    )
    arguments = ["--data", str(tmp_path / "d.zip"), "--steps", "20"]
    arguments += ["--outdir", str(tmp_path / "heads"), "--cache-dir", str(tmp_path / "cache")]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    record = json.loads((tmp_path / "heads" / "small.json").read_text())
    (data,) = record["data"]
    assert data["licence"] == "CC-BY-SA-4.0"
    assert data["num_pictures"]["train"] + data["num_pictures"]["test"] == len(emojis)
    weights = (tmp_path / "heads" / "small.safetensors").read_bytes()
    second = CliRunner().invoke(main, arguments)
    assert "image features" in first.stderr
    assert "image features" not in second.stderr  # they come from the cache
    assert (tmp_path / "heads" / "small.safetensors").read_bytes() == weights
    encoder = load_encoder(f"small:{tmp_path / 'heads' / 'small.safetensors'}")
    assert encoder.encode_text(["an apple"]).sentence.shape == (1, 256)


def test_the_command_names_a_missing_archive(tmp_path):
    folders = ["--cache-dir", str(tmp_path), "--outdir", str(tmp_path / "heads")]
    done = CliRunner().invoke(main, ["--data", str(tmp_path / "none.zip"), *folders])
    assert done.exit_code == 1 and "none.zip" in done.stderr and "Traceback" not in done.stderr
