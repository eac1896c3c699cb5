"""Import of Oxford-102 from small files in the official layout."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datasets.archive import Archive
from datasets.flowers import flower_pictures
from datasets.report import Report
from dnnlib.errors import UserError
from tests.datasets.tool import run

CLASSES = (77, 77, 1, 102)  # of image_00001 and so on


@pytest.fixture
def official(tmp_path):
    """Four pictures of three classes with two captions each, and files of both kinds of split."""
    (tmp_path / "jpg").mkdir()
    for number, label in enumerate(CLASSES, 1):
        colour = (60 * number, 20, 255 - 60 * number)
        Image.new("RGB", (24, 20), colour).save(tmp_path / f"jpg/image_{number:05d}.jpg")
        folder = tmp_path / f"text_c10/class_{label:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"image_{number:05d}.txt").write_text(f"flower {number} is red.\nit has petals\n")
        (folder / f"image_{number:05d}.h5").write_bytes(b"features")
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([CLASSES], np.uint8)})
    savemat(tmp_path / "setid.mat", {"trnid": [[1]], "valid": [[2]], "tstid": [[3, 4]]})
    (tmp_path / "trainvalclasses.txt").write_text("class_00077\r\nclass_00102\r\n")
    (tmp_path / "testclasses.txt").write_text("class_00001\n")
    return tmp_path


def pictures(official, **options):
    report = Report()
    return flower_pictures(official / "jpg", official / "text_c10", report, **options), report


@pytest.mark.parametrize(
    "split,sides",
    [
        (None, ["train"] * 4),
        ("setid.mat", ["train", "train", "test", "test"]),
        ("reed:", ["train", "train", "test", "train"]),
    ],
)
def test_captions_classes_and_splits(official, split, sides):
    where = {None: None, "setid.mat": str(official / "setid.mat"), "reed:": f"reed:{official}"}
    raws, report = pictures(official, labels=official / "imagelabels.mat", split=where[split])
    assert [raw.split for raw in raws] == sides and not report.skipped
    assert [raw.id for raw in raws[:3]] == [
        "class_00077/image_00001",
        "class_00077/image_00002",
        "class_00001/image_00003",
    ]
    assert raws[0].captions == ("flower 1 is red.", "it has petals")


def test_what_is_missing_is_named(official):
    (official / "jpg/image_00002.jpg").unlink()
    (official / "text_c10/class_00102/image_00004.txt").unlink()
    (official / "text_c10/class_00001/image_00003.txt").write_text("\n")
    raws, report = pictures(official)
    assert [raw.name for raw in raws] == ["image_00001.jpg"]
    assert report.counts == {"captions without picture": 1, "picture without captions": 2}


@pytest.mark.parametrize(
    "spoil,options,message",
    [
        (lambda folder: None, {"split": "none.mat"}, "--split none.mat: no such file"),
        (lambda folder: None, {"split": "reed:none"}, "testclasses.txt and trainvalclasses.txt"),
        (
            lambda folder: (folder / "imagelabels.mat").write_bytes(b"no"),
            {"labels": "imagelabels.mat"},
            "not a MATLAB file",
        ),
        (
            lambda folder: savemat(folder / "imagelabels.mat", {"labels": [[77, 77, 1, 5]]}),
            {"labels": "imagelabels.mat"},
            "1 of 4 captioned pictures have another class there",
        ),
        (lambda folder: None, {"labels": "setid.mat"}, "it holds no labels"),
        (
            lambda folder: (folder / "testclasses.txt").write_bytes(bytes(range(128, 256)) * 9),
            {"split": "reed:."},
            "--split: testclasses.txt cannot be read \\(neither UTF-8",
        ),
    ],
)
def test_wrong_files_get_one_line(official, spoil, options, message, monkeypatch):
    monkeypatch.chdir(official)
    spoil(official)
    with pytest.raises(UserError, match=message):
        pictures(official, **options)


def test_links_and_hidden_files_are_told_and_links_followed(official, tmp_path):
    (official / "text_c10/class_00077").rename(official / "elsewhere")
    (official / "text_c10/class_00077").symlink_to(official / "elsewhere")
    (official / "jpg/.DS_Store").touch()
    raws, report = pictures(official)
    assert [raw.id for raw in raws] == ["class_00001/image_00003", "class_00102/image_00004"]
    assert report.counts == {
        "hidden file or folder": 1,
        "picture without captions": 2,
        "linked folder (--follow-links reads it)": 1,
    }
    raws, report = pictures(official, follow_links=True)
    assert len(raws) == 4 and report.counts == {"hidden file or folder": 1}


def test_the_command(official, tmp_path):
    done = run(
        "flowers",
        "--images",
        official / "jpg",
        "--captions",
        official / "text_c10",
        "--labels",
        official / "imagelabels.mat",
        "--split",
        f"reed:{official}",
        "--dest",
        tmp_path / "flowers.zip",
        "--resolution",
        "16x16",
    )
    assert done.exit_code == 0, done.output
    entries = Archive(tmp_path / "flowers.zip").entries()
    assert [entry.split for entry in entries] == ["train", "train", "test", "train"]
