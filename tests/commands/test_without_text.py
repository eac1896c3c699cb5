"""The real commands on data without captions and on data of StyleGAN's tools.

The data are converted and trained on, and pictures are generated and scored.
"""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from datasets.archive import Picture, write_archive
from tests.commands.forked import run_command, succeed
from tests.datasets.picture_bytes import saved

TICK = ("--recipe", "debug", "--kimg", "0.008", "--report-to", "none")


def refused(*arguments):
    done = run_command(*arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def draw(number, side=32):
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)


def ours(path, captions=(), side=32, splits=("test", "train", "train"), count=12):
    pictures = [
        Picture(draw(i, side), f"{('dog', 'cat')[i % 2]}/{i}", captions, splits[i % len(splits)])
        for i in range(count)
    ]
    write_archive(path, pictures, (side, side), {"source": "noise"})
    return path


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A compressed zip that holds only pictures."""
    path = tmp_path_factory.mktemp("bare") / "faces.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(10):
            file.writestr(f"{i:05d}.png", saved(Image.fromarray(draw(i)), "PNG"))
    return path


@pytest.fixture(scope="module")
def run(bare, tmp_path_factory):
    """An unconditional run of one tick, trained on and scored against pictures without captions."""
    outdir = tmp_path_factory.mktemp("runs") / "faces"
    done = succeed(
        "train.py",
        "--outdir",
        outdir,
        *TICK,
        "--cond",
        "false",
        "--data",
        bare,
        *"--metrics kid_full_lite2 --set metric_num=4".split(),
        *"--set text_encoder=open_clip:none/none".split(),
    )
    assert "10 pictures of faces" in done.stdout and "kid_full_lite2: " in done.stdout
    return outdir


@pytest.mark.slow
def test_an_unconditional_run_loads_no_encoder_and_says_so(run):
    """The named encoder does not exist, so loading it would fail."""
    config = json.loads((run / "network-snapshot-000000/config.json").read_text())
    assert config["text_encoder"] == config["text_encoder_id"] == ""
    assert config["generator"]["sentence_dim"] == config["generator"]["word_dim"] == 0
    card = (run / "network-snapshot-000000/README.md").read_text()
    assert "| Text encoder | none |" in card and "--prompts" not in card
    with Image.open(run / "fakes000000.png") as fakes:
        assert "prompts" not in fakes.info


@pytest.mark.slow
def test_an_unconditional_network_takes_seeds_alone(run, tmp_path):
    base = ("generate.py", "--network", run, "--outdir", tmp_path)
    succeed(*base, "--seeds", "0-1", "--grid", "--size", "40x20", "--trunc", "0.7")
    names = ["0-seed0000.png", "1-seed0001.png", "grid.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    with Image.open(tmp_path / names[0]) as one, Image.open(tmp_path / names[1]) as other:
        assert one.size == (40, 20) and one.info["seed"] == "0" and "prompt" not in one.info
        assert one.tobytes() != other.tobytes()
    kept = succeed(*base, "--seeds", "5", "--size", "8x8").stderr
    assert "keeps 3 pictures of an earlier call" in kept
    refusal = refused(*base, "--prompts", "a face")
    assert "was trained without text and reads no prompt" in refusal


@pytest.mark.slow
def test_text_measures_are_left_out_where_they_were_not_asked_for(run, tmp_path):
    data = ours(tmp_path / "own.zip")
    base = ("calc_metrics.py", "calc", "--network", run, "--data", data, "--num", 2)
    done = succeed(*base)
    scored = [json.loads(line)["metric"] for line in done.stdout.splitlines()]
    assert scored == ["kid_lite2", "scale_x2", "tile_exact"]
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("Left out"))
    names = "clip_s_small, clip_s_small_heldout, clip_r_small"
    assert line.startswith(f"Left out {names}: --data {data} has no captions")
    asked = run_command(*base, "--metrics", "clip_s_small,tile_exact")
    assert asked.returncode == 1
    assert f"Error: clip_s_small: --data {data} has no captions" in asked.stderr
    assert json.loads(asked.stdout)["metric"] == "tile_exact"


@pytest.mark.slow
def test_pictures_of_an_unconditional_run_are_written_without_captions(run, bare, tmp_path):
    of = ("--network", run, "--data", bare)
    succeed(
        "calc_metrics.py",
        "gen",
        *of,
        "--metrics",
        "kid_full_lite2",
        "--num",
        2,
        "--outdir",
        tmp_path / "pictures",
    )
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir()) == [
        "img00000000.png",
        "img00000001.png",
        "pictures.json",
    ]
    refusal = refused("calc_metrics.py", "calc", *of)
    assert "the default ones cannot be computed: " in refusal


@pytest.mark.slow
def test_our_own_data_without_captions(tmp_path):
    data = ours(tmp_path / "own.zip")
    base = ("train.py", "--outdir", tmp_path / "run", *TICK, "--data", data)
    refusal = refused(*base)
    assert "have no captions, which recipe debug reads; " in refusal
    assert "or train without text (--cond false)" in refusal
    asked = refused(*base, "--cond", "false", "--metrics", "clip_s_small")
    assert "--metrics clip_s_small: " in asked
    assert not (tmp_path / "run").exists()
    done = succeed(*base, "--cond", "false")
    assert "8 pictures of own" in done.stdout
    again = succeed(*base, "--cond", "false")
    assert "Resumed from" in again.stdout
    assert "nothing to encode" in refused("dataset_tool.py", "encode-text", "--data", data)


@pytest.mark.slow
def test_a_recipe_that_reads_no_text_cannot_be_told_to(tmp_path):
    assert "--cond true: recipe creps-openmoji64 reads no text" in refused(
        "train.py", "--outdir", tmp_path, "--recipe", "creps-openmoji64", "--cond", "true", "-n"
    )


@pytest.mark.slow
def test_metrics_of_the_recipe_that_the_data_cannot_serve_are_left_out(tmp_path):
    """Train with the default flags on data with only a train split, such as COCO's train set."""
    data = ours(tmp_path / "train.zip", ("a cat",), side=64, splits=("train",), count=4)
    base = (
        "train.py",
        "--outdir",
        tmp_path / "run",
        "--recipe",
        "eidgan-openmoji64",
        "--data",
        data,
        "--batch",
        2,
        *"--kimg 0.002 --report-to none".split(),
        "--workers",
        0,
        "--set",
        "text_encoder=hashed",
    )
    done = succeed(*base)
    assert f"Left out kid_lite2: --data {data} has no test split; score against" in done.stdout
    assert "Left out kid_lite2" in (tmp_path / "run/log.txt").read_text()
    assert json.loads((tmp_path / "run/training_options.json").read_text())["metrics"] == []
    assert "--metrics kid_lite2: " in refused(*base, "--metrics", "kid_lite2")
    assert "--metrics kid_lite2: " in refused(*base, "--set", 'metrics=["kid_lite2"]')


@pytest.mark.slow
def test_labels_of_a_conversion_become_captions_of_a_run(tmp_path):
    data = ours(tmp_path / "own.zip", ("an animal",))
    converted = tmp_path / "sg.zip"
    done = succeed(
        "dataset_tool.py",
        "convert",
        "--source",
        data,
        "--dest",
        converted,
        *"--format stylegan --split all --labels class".split(),
    )
    assert "pictures of 32x32 for StyleGAN, labels of 2 classes\nLeft out 12 capt" in done.stdout
    assert (
        "(12 train, 0 test) with 0 captions"
        in succeed("dataset_tool.py", "verify", "--source", converted).stdout
    )
    base = ("train.py", "--outdir", tmp_path / "run", *TICK, "--data", converted)
    assert "have no captions" in refused(*base)
    template = ("--caption-template", "a photo of a {}")
    succeed(*base, *template)
    with Image.open(tmp_path / "run/fakes000000.png") as fakes:
        assert set(fakes.info["prompts"].split("\n")) == {"a photo of a cat", "a photo of a dog"}
    refusal = refused(*base, "--caption-template", "another {}")
    assert "not the pictures that this run was started with" in refusal
    succeed(
        "calc_metrics.py",
        "gen",
        "--network",
        tmp_path / "run",
        "--data",
        converted,
        *template,
        "--metrics",
        "kid_full_lite2",
        "--num",
        2,
        "--outdir",
        tmp_path / "pictures",
    )
    assert "a photo of a " in (tmp_path / "pictures/captions.jsonl").read_text()
