"""Import of picture folders: captions in both forms, skipped files, transforms."""

import json

import numpy as np
import pytest
from PIL import Image

from datasets.archive import Archive, write_archive
from datasets.folder import folder_pictures, split_of
from datasets.importing import import_info, import_pictures, resize
from datasets.report import Report
from dnnlib.errors import UserError
from tests.datasets.tool import run


def ramp(width=16, height=8):
    """A picture in which red increases to the right and green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 50)], -1).astype(np.uint8))


def pixels(picture):
    return np.asarray(picture).astype(int)


def run_import(folder, resolution=(8, 8), **options):
    report = Report()
    return list(
        import_pictures(folder_pictures(folder, report), resolution, report, **options)
    ), report


def test_transforms():
    wide = Image.new("RGB", (30, 10), "red")
    wide.paste("blue", (10, 0, 20, 10))  # the centred square
    assert (pixels(resize(wide, (10, 10), "center-crop")) == [0, 0, 255]).all()
    padded = pixels(resize(wide, (30, 30), "pad"))
    assert (
        (padded[:10] == 255).all()
        and (padded[20:] == 255).all()
        and (padded[10:20, :10] == [255, 0, 0]).all()
    )
    stretched = pixels(resize(wide, (30, 40), "stretch"))
    assert (stretched[:, 12:18] == [0, 0, 255]).all() and (stretched[:, :8] == [255, 0, 0]).all()
    assert resize(wide, (7, 5), "center-crop").size == (7, 5)


def test_texts_beside_pictures_and_skipped_files(tmp_path):
    (tmp_path / "deep").mkdir()
    ramp().save(tmp_path / "a.PNG")
    (tmp_path / "a.txt").write_text("\ufeffa ramp \n\n  a red and green ramp\n", encoding="utf-8")
    ramp().save(tmp_path / "deep" / "b.jpg")
    (tmp_path / "deep" / "b.txt").write_text("another")
    ramp().save(tmp_path / "silent.png")
    ramp().save(tmp_path / "empty.png")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n....")
    (tmp_path / "broken.txt").write_text("x")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        tmp_path / "cut.png"
    )
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    (tmp_path / "cut.txt").write_text("x")
    made, report = run_import(tmp_path)
    assert [(p.id, p.captions, p.split) for p in made] == [
        ("a.PNG", ("a ramp", "a red and green ramp"), "train"),
        ("deep/b.jpg", ("another",), "train"),
    ]
    reasons = {entry["file"]: entry["reason"] for entry in report.skipped}
    assert set(reasons) == {"silent.png", "empty.png", "broken.png", "cut.png"}
    assert (
        "no caption file silent.txt" in reasons["silent.png"] and "is empty" in reasons["empty.png"]
    )


def test_report_reaches_the_archive(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b"):
        ramp().save(source / f"{name}.png")
        (source / f"{name}.txt").write_text(name)
    (source / "a.png").write_bytes(b"text")
    report = Report()
    made = import_pictures(folder_pictures(source, report), (4, 4), report)
    write_archive(tmp_path / "x.zip", made, (4, 4), import_info("folder in", "center-crop", report))
    metadata = Archive(tmp_path / "x.zip").metadata
    assert [entry["file"] for entry in metadata["skipped"]] == ["a.png"] and len(
        metadata["items"]
    ) == 1
    assert (
        metadata["resize_filter"].startswith("lanczos") and metadata["transform"] == "center-crop"
    )


def test_max_images_counts_usable_ones(tmp_path):
    for name in "abcd":
        ramp().save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "a.png").write_bytes(b"")
    assert [p.id for p in run_import(tmp_path, max_images=2)[0]] == ["b.png", "c.png"]


def write_lines(folder, *records):
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")


def test_captions_file(tmp_path):
    ramp().save(tmp_path / "a.png")
    ramp().save(tmp_path / "b.png")
    write_lines(
        tmp_path,
        {"file": "b.png", "captions": ["b", " second "], "split": "test"},
        "",
        {"file": "a.png", "captions": ["a"]},
        {"file": "gone.png", "captions": ["x"]},
        {"file": "mute.png", "captions": []},
    )
    made, report = run_import(tmp_path)
    assert [(p.id, p.captions, p.split) for p in made] == [
        ("b.png", ("b", "second"), "test"),
        ("a.png", ("a",), "train"),
    ]
    assert report.skipped == [
        {"file": "gone.png", "reason": "no such file"},
        {"file": "mute.png", "reason": "no captions"},
    ]


@pytest.mark.parametrize(
    "record, message",
    [
        (
            {"file": "a.png", "caption": ["a"]},
            r"captions.jsonl, line 2: unknown key 'caption'; did you mean 'captions'\?",
        ),
        ({"file": "a.png"}, "line 2: key 'captions' is missing"),
        ({"file": "a.png", "captions": "a"}, "line 2: 'captions' must be a list of texts"),
        ({"file": "a.png", "captions": [1]}, "line 2: 'captions' must be a list of texts"),
        ({"file": "../a.png", "captions": ["a"]}, "line 2: 'file' must be a path below"),
        (
            {"file": "a.png", "captions": ["a"], "split": "val"},
            "line 2: 'split' must be one of train, test",
        ),
        ({"file": "first.png", "captions": ["a"]}, "line 2: first.png is listed twice"),
        ('{"file": ', "line 2 is not valid JSON"),
        ("[1, 2]", "line 2: expected"),
    ],
)
def test_wrong_captions_file_names_line_and_key(tmp_path, record, message):
    write_lines(tmp_path, {"file": "first.png", "captions": ["a"]}, record)
    with pytest.raises(UserError, match=message):
        folder_pictures(tmp_path, Report())


def test_missing_and_empty_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        folder_pictures(tmp_path / "x", Report())
    with pytest.raises(UserError, match="no pictures found"):
        folder_pictures(tmp_path, Report())


def test_a_test_share_is_dealt_by_name_and_named_splits_stay(tmp_path):
    names = [f"{i}.png" for i in range(400)]
    test = {name for name in names if split_of(name, 0.2) == "test"}
    assert 50 < len(test) < 110 and test < {name for name in names if split_of(name, 0.5) == "test"}
    assert {split_of(name, 0.0) for name in names} == {"train"}
    for name in (kept := min(test), "other.png"):
        ramp().save(tmp_path / name)
    assert split_of("other.png", 0.2) == "train"
    (tmp_path / "captions.jsonl").write_text(
        json.dumps({"file": kept, "captions": ["a"]})
        + "\n"
        + json.dumps({"file": "other.png", "captions": ["b"], "split": "test"})
        + "\n"
    )
    assert [s.split for s in folder_pictures(tmp_path, Report())] == ["train", "test"]
    assert [s.split for s in folder_pictures(tmp_path, Report(), 0.2)] == ["test", "test"]


def test_a_data_set_inside_the_source_would_be_read_by_the_next_import(tmp_path):
    source, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    (source / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    ramp().save(source / "a.png")
    (source / "link").symlink_to(elsewhere)
    (tmp_path / "way").symlink_to(source)
    line = ("folder", "--source", source, "--no-captions", "--resolution", "8x8", "--dest")
    for dest, more in (
        (source, ()),
        (source / "out", ()),
        (source / "deep" / "new" / "out", ()),
        (tmp_path / "way" / "out", ()),
        (elsewhere / "out", ("--follow-links",)),
    ):
        refused = run(*line, dest, *more)
        assert refused.exit_code == 1 and not dest.joinpath("dataset.json").exists()
        assert dest == source or "lies inside --source" in refused.stderr, refused.stderr
    for dest in (elsewhere / "out", source / "out.zip"):
        for _ in range(2):
            assert "1 pictures of 8x8" in run(*line, dest).stdout
