"""Commands warn once of captions with more tokens than the text encoder reads."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

import calc_metrics
import dataset_tool
import generate
from configs import recipe
from datasets.archive import Picture, write_archive
from datasets.text_image import TextImageDataset
from networks.generators import preset
from networks.snapshot import Snapshot
from networks.text_encoders import load_encoder
from networks.text_encoders.hashed import HashedEncoder
from networks.text_encoders.limits import cut_captions, cut_line
from training.launch import tell_cut

LONG = "a red apple beside " + "a very small blue bird " * 15
ALIKE = LONG + "and a dog"
WORDS = "longer than the 77 tokens that the text encoder reads, so the end is ignored"


@pytest.fixture(scope="module")
def small():
    return load_encoder("small")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight test pictures and two train pictures; three of all captions are cut."""
    path = tmp_path_factory.mktemp("data") / "long.zip"
    captions = [(LONG,), (ALIKE,), *[(f"thing {i}",) for i in range(7)], (LONG * 2,)]
    image = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8).numpy()
    write_archive(
        path,
        [
            Picture(image, f"id{i}", texts, "test" if i < 8 else "train")
            for i, texts in enumerate(captions)
        ],
        (16, 16),
        {},
    )
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = preset("eidgan-tiny").with_text(256, 384).build().eval()
    folder = tmp_path_factory.mktemp("run") / "network-snapshot-000001"
    Snapshot(generator, "small", 16, {"recipe": "test"}).save_pretrained(folder)
    return folder


def run(command, *arguments):
    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.stderr
    return done


def told(text):
    return [line for line in text.splitlines() if WORDS in line]


@pytest.mark.slow
def test_the_limit_is_exact(small):
    """75 words of one token each fit with the start and end of text; the 76th word is cut."""
    for count, over in ((74, False), (75, False), (76, True)):
        text = " ".join(["dog"] * count)
        assert cut_captions(small, [text]) == ([text] if over else [], 77)
        same = torch.equal(*(small.encode_text([text + end]).sentence for end in ("", " cat")))
        assert same == (count >= 75)
    letters = ", ".join("abcdefghijklmnopqrstuvwxyz" * 2)  # two tokens for three characters
    assert cut_captions(small, [letters, "\u00e9" * 76 + " a", "a"])[0] == [letters]
    assert cut_captions(HashedEncoder(), [letters]) == ([], 0)


def test_clips_own_tokens_are_counted(small, monkeypatch):
    open_clip = pytest.importorskip("open_clip")
    monkeypatch.setattr(small, "tokenizer", open_clip.get_tokenizer("ViT-B-32"))
    monkeypatch.setattr(
        small,
        "_mask",
        lambda tokens: torch.arange(tokens.shape[1]) <= tokens.argmax(1, keepdim=True),
    )
    for count, over in ((75, False), (76, True)):
        text = " ".join(["dog"] * count)
        assert small.cut([text]) == ([text] if over else [], 77)


def test_one_line_names_the_first_and_counts_the_others(small):
    assert cut_line(small, ["a cat"]) is None
    assert cut_line(small, [LONG, LONG, "a cat"]) == f"Warning: {WORDS}: {LONG[:60] + ' ...'!r}"
    assert cut_line(small, [LONG, ALIKE, LONG * 2]).endswith(" ...' and 2 more")


@pytest.mark.slow
def test_generate_says_it_once(network, tmp_path):
    base = ("--network", network, "--device", "cpu", "--size", "8x8", "--seeds", "0-1")
    done = run(
        generate.main,
        *base,
        "--outdir",
        tmp_path / "a",
        "--prompts",
        LONG,
        "--prompts",
        ALIKE,
        "--prompts",
        "a cat",
    )
    (line,) = told(done.stderr)
    assert repr(LONG[:60] + " ...") in line and line.endswith(" and 1 more")
    done = run(generate.main, *base, "--outdir", tmp_path / "b", "--prompts", "a cat")
    assert told(done.stderr) == []


@pytest.mark.slow
def test_training_and_encode_text_say_it_once(small, data, tmp_path, capsys):
    done = run(
        dataset_tool.main, "encode-text", "--data", data, "--cache", tmp_path, "--device", "cpu"
    )
    assert len(told(done.stderr)) == 1 and "and 2 more" in done.stderr
    tell_cut(small, recipe("debug").for_encoder(256, 384), TextImageDataset(data, split="test"))
    assert len(told(capsys.readouterr().out)) == 1
    blind = recipe("creps-openmoji64")
    assert not (blind.generator.sentence_dim or blind.generator.word_dim)
    tell_cut(small, blind, TextImageDataset(data, split="test"))
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_calc_and_gen_say_it_once(network, data, tmp_path):
    base = ("--network", network, "--data", data, "--device", "cpu", "--num-images", 8)
    made = run(
        calc_metrics.main, "gen", *base, "--metrics", "kid_lite2", "--outdir", tmp_path / "p"
    )
    assert len(told(made.stderr)) == 1
    done = run(
        calc_metrics.main,
        "calc",
        *base,
        "--metrics",
        "clip_s_small,clip_r_small",
        "--cache",
        tmp_path,
    )
    assert len(told(done.stderr)) == 1 and "and 1 more" in done.stderr
    assert len(done.stdout.splitlines()) == 2
