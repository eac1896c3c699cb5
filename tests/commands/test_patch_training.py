"""Training on patches of pictures of any shape, by the real commands."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.text_image import TextImageDataset
from tests.commands.forked import run_command, succeed
from training.checkpoint import read_newest

SIZES = [(64, 40), (40, 70), (48, 48), (36, 33), (20, 90), (60, 60)]


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """A data set of native sizes, and what the import printed; one picture is too small."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(SIZES):
        for split in ("train", "test"):
            (folder / split).mkdir(exist_ok=True)
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / split / f"{i}.png")
            (folder / split / f"{i}.txt").write_text(f"thing {i}\n")
    dest = folder.parent / "native.zip"
    words = ("--source", folder, "--dest", dest, "--resolution", "32x32", "--transform", "none")
    return dest, succeed("dataset_tool.py", "folder", *words)


def test_an_import_keeps_sizes_and_leaves_small_pictures_out(native):
    dest, done = native
    assert "10 pictures of 36x33 to 60x60 (5 train, 5 test)" in done.stdout
    assert "2 x picture smaller than 32x32" in done.stdout
    assert "Skipped train/4.png: 20x90" in done.stdout
    dataset = TextImageDataset(dest)
    sizes = {dataset.size(i) for i in range(len(dataset))}
    assert dataset.native and sizes == set(SIZES) - {(20, 90)}
    assert all(tuple(dataset[i].image.shape[:0:-1]) == dataset.size(i) for i in range(len(dataset)))
    assert dataset.info["resize_filter"] == "none" and dataset.info["transform"] == "none"
    verified = succeed("dataset_tool.py", "verify", "--source", dest)
    assert "10 pictures of 36x33 to 60x60" in verified.stdout
    sheet = dest.parent / "sheet.png"
    succeed("dataset_tool.py", "show", "--source", dest, "--dest", sheet, "--num-images", "4")


def test_training_scoring_and_drawing(native, tmp_path):
    dest, run = native[0], tmp_path / "run"
    words = ("--outdir", run, "--recipe", "debug", "--data", dest, "--report-to", "none")
    flags = "--patch 16 --scale-range 1-2 --kimg 0.016 --metrics swd,detail_x2_lite2".split()
    more = "--set discriminator.spectral_scale=8 --set metric_num=4 --set resolution=16".split()
    succeed("train.py", *words, *flags, *more)
    options = json.loads((run / "training_options.json").read_text())
    assert options["patches"] == {
        "side": 16,
        "scale": [1.0, 2.0],
        "full": 0.5,
        "filter": "lanczos",
    }
    assert options["discriminator"]["resolution"] == 16
    records = (run / "metric-detail_x2_lite2.jsonl").read_text().splitlines()
    assert len(records) == 2 and json.loads(records[0])["num_real"] == 5
    assert Image.open(run / "reals.png").size == Image.open(run / "fakes000000.png").size
    again = succeed("train.py", *words, *flags, *more)
    assert "Nothing to train" in again.stdout
    # The same real pictures, by a data set of native sizes that the scoring command reads itself.
    scored = succeed(
        "calc_metrics.py",
        *("calc", "--network", run, "--data", dest, "--data-large", dest),
        *("--metrics", "detail_x2_lite2", "--num-images", "4", "--cache", tmp_path),
    )
    assert json.loads(scored.stdout)["value"] == pytest.approx(json.loads(records[1])["value"])
    # The whole shape of a 3:2 picture: half a frame more than the square.
    window = ("--window", "-0.25,0,1.25,1", "--size", "24x16", "--outdir", tmp_path / "out")
    succeed("generate.py", "--network", run, "--prompts", "thing 1", *window)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--scale-range 1-2", "Error: --scale-range: is the range of patches; add --patch"),
        ("--patch 32 --scale-range 2", "Error: --scale-range 2: expected A-B, such as 1-4"),
        ("--patch 32 --scale-range 4-1", "patches.scale: needs 1 <= least <= largest"),
        ("--patch 64", "patches.side: 64 is larger than resolution = 32"),
        ("", "the pictures have different sizes; train on patches of them (train.py --patch"),
    ],
)
def test_one_line_for_each_mistake(native, tmp_path, words, message):
    done = run_command(
        "train.py",
        *("--outdir", tmp_path / "run", "--recipe", "debug", "--data", native[0]),
        *words.split(),
    )
    assert done.returncode == 1 and message in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_teacher_keeps_what_whole_pictures_show(native, tmp_path):
    """Training with `loss.teacher` on patches resumes, and needs the network it started from."""
    words = ("--recipe", "debug", "--data", native[0], "--report-to", "none")
    small = "--set discriminator.spectral_scale=8 --set resolution=16".split()
    first, second = tmp_path / "first", tmp_path / "second"
    succeed("train.py", "--outdir", first, *words, "--patch", "16", *small)
    more = (*small, "--patch", "16", "--set", "loss.style_mixing=0", "--set", "loss.teacher=10")
    done = run_command("train.py", "--outdir", second, *words, *more)
    assert done.returncode == 1 and "loss.teacher" in done.stderr and "--init-from" in done.stderr
    assert not second.exists()
    taught = ("--outdir", second, *words, *more, "--init-from", first)
    succeed("train.py", *taught, "--kimg", "0.032")
    before = read_newest(second)
    succeed("train.py", "--outdir", first, *words, "--patch", "16", *small, "--kimg", "0.08")
    succeed("train.py", *taught, "--kimg", "0.048")
    after = read_newest(second)
    assert before is not None and after is not None
    # The teacher is the network of the start, although its run has a newer one now.
    for name, tensor in before[1]["teacher"].items():
        assert torch.equal(after[1]["teacher"][name], tensor)
    ticks = [json.loads(line) for line in (second / "stats.jsonl").read_text().splitlines()]
    assert [tick["images"] for tick in ticks] == [16, 32, 48]
    assert all(0 < tick["Loss/teacher"] < 2 for tick in ticks)
