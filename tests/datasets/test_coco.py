"""COCO import: ids, order, captions, and every defect named and counted."""

import json

import pytest

from datasets.coco import coco_pictures, split_of
from datasets.importing import import_pictures
from datasets.report import Report
from dnnlib.errors import UserError


def read(root, **options):
    report = Report(**options)
    return coco_pictures(
        root / "train2014", root / "annotations" / "captions_train2014.json", "train", report
    ), report


def test_ids_order_and_captions(coco_root):
    raws, _ = read(coco_root)
    assert [raw.id for raw in raws] == ["9", "25", "30", "34", "36"]
    assert raws[2].captions == (
        "A vase of flowers.",
        "A second caption.",
    )  # in the order of annotation ids, folded
    assert raws[1].captions == ("A giraffe.",)


def test_defects_are_named_and_counted(coco_root):
    raws, report = read(coco_root)
    made = list(import_pictures(raws, (8, 8), report, num_threads=2))
    assert [picture.id for picture in made] == ["9", "25", "30", "34"] and made[0].image.shape == (
        8,
        8,
        3,
    )
    assert report.counts == {
        "picture without captions": 1,
        "captions without picture": 1,
        "empty caption": 1,
        "greyscale picture": 1,
        "damaged picture": 1,
    }
    named = {entry["file"] for entry in report.skipped}
    assert named == {
        "COCO_train2014_000000000049.jpg",
        "COCO_train2014_000000000064.jpg",
        "annotation 8",
        "COCO_train2014_000000000036.jpg",
    }


def test_a_picture_that_the_annotations_do_not_know(coco_root):
    (coco_root / "train2014" / "COCO_train2014_000000000077.jpg").write_bytes(b"x")
    _, report = read(coco_root)
    assert {
        "file": "COCO_train2014_000000000077.jpg",
        "reason": "picture without captions: not in the annotations",
    } in report.skipped


def test_strict_stops_at_the_first_defect(coco_root):
    with pytest.raises(UserError, match="--strict"):
        read(coco_root, strict=True)


def test_split_comes_from_the_name():
    assert (
        split_of("a/captions_train2017.json") == "train"
        and split_of("captions_val2014.json") == "test"
    )
    with pytest.raises(UserError, match="--split train or --split test"):
        split_of("train/captions.json")


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda c: c.pop("images"), "'images' and 'annotations' are missing"),
        (
            lambda c: c["annotations"][0].pop("caption"),
            r"annotations\[0\]: no 'caption'; this is another kind",
        ),
        (lambda c: c["images"][1].pop("id"), r"images\[1\]: 'id' is missing"),
        (lambda c: c["images"][1].update(file_name="../x.jpg"), "must be a plain name"),
        (lambda c: c["images"][1].update(id=30), "id 30 is there twice"),
        (lambda c: c.update(images=[{"id": 1, "file_name": "a.jpg"}]), "none of its 1 pictures"),
    ],
)
def test_other_files_are_refused(coco_root, change, complaint):
    path = coco_root / "annotations" / "captions_train2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=complaint):
        read(coco_root)


def test_missing_files_say_where_they_come_from(tmp_path):
    with pytest.raises(UserError, match="train2014: no such folder; .*cocodataset.org"):
        coco_pictures(tmp_path / "train2014", tmp_path / "x.json", "train", Report())
    (tmp_path / "train2014").mkdir()
    with pytest.raises(UserError, match="x.json: no such file; .*annotations_trainval2014.zip"):
        coco_pictures(tmp_path / "train2014", tmp_path / "x.json", "train", Report())
