"""Nearest training pictures: against scipy, a planted copy, the sheet, the measures in `calc`."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist

from datasets.archive import Picture, write_archive
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from metrics.arithmetic import pairwise
from metrics.measures.base import Evaluation
from metrics.measures.nearest_train import ROUNDING, NearestTrain, extent, nearest, threshold
from metrics.pictures.folder_subject import FolderSubject
from metrics.pictures.nearest_sheet import asked_sheet
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.sources import Sources
from metrics.runner import evaluate
from tests.metrics.calc import calc, records_of, run

TOY = Evaluation(name="nearest_toy", summary="copies", measure=NearestTrain(detector="toy"))
PIXELS = "swd,lattice,motif,ppd"


def test_nearest_equals_scipys_distances(monkeypatch):
    monkeypatch.setattr(pairwise, "BLOCK", 7)
    rng = np.random.default_rng(0)
    train, points = rng.standard_normal((50, 9)) + 100, rng.standard_normal((20, 9)) + 100
    found, expected = nearest(train, points), cdist(points, train)
    assert found.distance == pytest.approx(expected.min(1), rel=1e-9)
    assert found.index.tolist() == expected.argmin(1).tolist()
    assert nearest(train, train[::-1]).index.tolist() == list(range(50))[::-1]
    assert nearest(train, train).distance == pytest.approx(0, abs=1e-6)
    assert threshold(found) == pytest.approx(np.quantile(expected.min(1), 0.01))


def test_distances_of_copies_are_below_what_counts_as_rounding():
    train = np.random.default_rng(0).standard_normal((50, 1000)).astype(np.float32) + 100
    again = train + 1e-6 * np.random.default_rng(1).standard_normal(train.shape)
    limit = ROUNDING * extent(train)
    assert extent(train) == pytest.approx(np.sqrt(1000), rel=0.05)
    assert max(nearest(train, copies).distance.max() for copies in (train, again)) < limit
    assert nearest(train[:25], train[25:]).distance.min() > 1e4 * limit


@pytest.fixture(scope="module")
def copied(archive, tmp_path_factory):
    """Eight pictures: three are training pictures, one a little brighter; the others are noise."""
    folder = tmp_path_factory.mktemp("copied")
    train = TextImageDataset(archive, split="train")
    rng = np.random.default_rng(9)
    for index in range(8):
        pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        if index in (2, 5, 7):
            pixels = train[index].image.permute(1, 2, 0).numpy()
        if index == 5:
            pixels = (pixels * 0.99 + 2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_planted_copies_are_counted(archive, copied):
    subject = FolderSubject(PictureFolder(copied))
    (record,) = evaluate(subject, archive, [TOY], num=8)
    parts = record["parts"]
    assert record["value"] == pytest.approx(3 / 8)
    assert (record["num_real"], record["num_train"]) == (12, 8)
    assert parts["ratio"] == pytest.approx(parts["generated"] / parts["test"])
    assert 0.5 < parts["ratio"] < 1.1
    with pytest.raises(
        UserError, match="nearest_toy: the real pictures have no train and test split"
    ):
        list(evaluate(subject, Sources(reference=copied), [TOY], num=8))


@pytest.mark.parametrize("num_copies", [2, 8])
def test_splits_that_share_pictures_are_refused(copied, tmp_path, num_copies):
    pixels = np.random.default_rng(0).integers(0, 256, (98, 16, 16, 3)).astype(np.uint8)
    sides = [(i, "train") for i in range(8)]
    sides += [(i, "test") for i in [*range(num_copies), *range(8, 98)]]
    items = [Picture(pixels[i], f"{side}{i}", ("a picture",), side) for i, side in sides]
    write_archive(tmp_path / "x.zip", iter(items), (16, 16), {"source": "noise"})
    with pytest.raises(UserError, match="1 % of the test pictures or more are training pictures"):
        list(evaluate(FolderSubject(PictureFolder(copied)), tmp_path / "x.zip", [TOY], num=8))


def test_the_sheet_begins_with_the_copies(archive, copied, tmp_path):
    sheet = tmp_path / "sheet.png"
    arguments = ["--images", copied, "--data", archive, "--num-images", 8, "--cache", tmp_path]
    name = ["--metrics", "nearest_train_lite2", "--nearest-sheet"]
    records_of(calc(*arguments, *name, sheet))
    with Image.open(sheet) as picture:
        assert picture.info["contact sheet"] == "noise"
        pixels = np.array(picture.convert("RGB")).astype(int)
    train = TextImageDataset(archive, split="train")
    first, beside = (pixels[12:236, left : left + 224][7::14, 7::14] for left in (12, 248))
    assert np.abs(first - beside).max() == 0
    assert any((beside == train[i].image.permute(1, 2, 0).numpy()).all() for i in (2, 7))
    asked_sheet(str(sheet), True, None, 1)  # our own one would be replaced
    with pytest.raises(UserError, match="give --seed one number"):
        asked_sheet(str(sheet), True, None, 2)
    foreign = tmp_path / "mine.png"
    Image.new("RGB", (4, 4)).save(foreign)
    statistics = tmp_path / "stats.npz"
    statistics.touch()
    for options, message in (
        ([*name, foreign], "mine.png is no picture that this program made"),
        ([*name, tmp_path / "x.jpg"], "--nearest-sheet .*x.jpg: the sheet is a PNG"),
        ([*name, statistics / "x.png"], "x.png: cannot be written .Not a directory"),
        (["--metrics", "swd", "--nearest-sheet", sheet], "drawn by nearest_train_lite2"),
        ([*name, sheet, "--ref", statistics], "give --data without --ref"),
    ):
        refused = calc(*arguments, *options)
        assert refused.exit_code == 1 and not refused.stdout
        assert re.search(message, refused.stderr), refused.stderr


@pytest.mark.slow
def test_pictures_of_gen_and_a_reference_file_give_the_networks_own_numbers(
    network, archive, tmp_path
):
    common = ["--metrics", PIXELS, "--num-images", 10, "--cache", tmp_path / "cache"]
    direct = records_of(calc("--network", network, "--data", archive, *common))
    assert direct["ppd"]["real_pairs"] == "any two" and direct["swd"]["num_compared"] == 10
    made = run(
        "gen",
        "--network",
        network,
        "--data",
        archive,
        "--metrics",
        "ppd",
        "--num-images",
        10,
        "--outdir",
        tmp_path / "pictures",
        "--device",
        "cpu",
    )
    assert made.exit_code == 0, made.stderr
    origin = json.loads((tmp_path / "pictures" / "pictures.json").read_text())
    items = list(origin["items"].values())
    assert len(set(items[:8])) == 1 == len(set(items[8:])) and items[0] != items[8]
    assert len(set(origin["latent_seeds"].values())) == 10
    stats = tmp_path / "stats.npz"
    assert (
        run(
            "ref", "--data", archive, "--metrics", PIXELS, "--dest", stats, "--device", "cpu"
        ).exit_code
        == 0
    )
    common[1] = "ppd"
    for source in (["--data", archive], ["--ref", stats]):
        again = records_of(calc("--images", tmp_path / "pictures", *source, *common))["ppd"]
        assert again["value"] == pytest.approx(direct["ppd"]["value"], rel=1e-6)
        assert again["parts"] == pytest.approx(direct["ppd"]["parts"], rel=1e-6)


def test_pictures_of_one_prompt_have_no_motif_and_single_ones_no_diversity(
    archive, copied, tmp_path
):
    def refusals(folder):
        refused = calc(
            "--images",
            folder,
            "--data",
            archive,
            "--metrics",
            "motif,ppd",
            "--num-images",
            8,
            "--cache",
            tmp_path,
        )
        assert refused.exit_code == 1
        return refused.stderr

    assert (
        "no two pictures have one prompt; ppd compares them: make the pictures with "
        "calc_metrics.py gen" in refusals(copied)
    )
    one = tmp_path / "one"
    one.mkdir()
    for file in copied.iterdir():
        (one / file.name).write_bytes(file.read_bytes())
        (one / file.name).with_suffix(".txt").write_text("the same")
    assert "all pictures have one prompt; motif compares pictures of different ones" in refusals(
        one
    )


def test_pictures_too_small_for_patches_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(4):
        pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    for metric in PIXELS.split(","):
        refused = calc(
            "--images", tmp_path, "--ref", tmp_path, "--metrics", metric, "--num-images", 4
        )
        assert refused.exit_code == 1
        assert (
            f"{metric}: pictures of at least 16 px a side are needed, these have 8"
            in refused.stderr
        )
