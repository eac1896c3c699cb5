"""Import of picture folders: every pixel format, captions in both forms, skipped files, transforms."""

import json

import numpy as np
import pytest
from PIL import Image

from datasets.archive import Archive, write_archive
from datasets.folder import ImportReport, find_sources, folder_info, folder_pictures, load_rgb, resize, split_of
from dnnlib.errors import UserError


def ramp(width=16, height=8):
    """A picture whose red grows to the right and green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 50)], -1).astype(np.uint8))


def pixels(picture):
    return np.asarray(picture).astype(int)


def run_import(folder, resolution=(8, 8), **options):
    report = ImportReport()
    return list(folder_pictures(find_sources(folder, report), resolution, report, **options)), report


@pytest.mark.parametrize("tag, turned", [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)),
                                         (8, np.rot90), (2, lambda a: a[:, ::-1])])
def test_exif_rotation(tmp_path, tag, turned):
    exif = Image.Exif()
    exif[0x0112] = tag
    ramp().save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(load_rgb(tmp_path / "a.png")), turned(pixels(ramp())))


def test_greyscale_and_one_bit(tmp_path):
    ramp().convert("L").save(tmp_path / "a.png")
    assert np.array_equal(pixels(load_rgb(tmp_path / "a.png")), np.repeat(pixels(ramp().convert("L"))[..., None], 3, 2))
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "b.png")
    assert np.array_equal(pixels(load_rgb(tmp_path / "b.png"))[..., 1], 255 * np.eye(4))


def test_alpha_is_laid_over_white(tmp_path):
    picture = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    picture.save(tmp_path / "a.png")
    assert pixels(load_rgb(tmp_path / "a.png")).tolist() == [[[255, 255, 255], [200, 0, 0]]]
    Image.new("LA", (1, 1), (0, 128)).save(tmp_path / "b.png")
    assert abs(pixels(load_rgb(tmp_path / "b.png")) - 127).max() <= 1


def test_palette_with_and_without_transparency(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png")
    assert pixels(load_rgb(tmp_path / "a.png")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    picture.save(tmp_path / "b.png", transparency=0)
    assert pixels(load_rgb(tmp_path / "b.png")).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert abs(pixels(load_rgb(tmp_path / "a.jpg")) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 25700, 65535, 40000]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert pixels(load_rgb(tmp_path / f"a.{suffix}"))[0, :, 0].tolist() == [0, 1, 100, 255, 156]


def test_float_pixels_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="no known range"):
        load_rgb(tmp_path / "a.tif")


def test_transforms():
    wide = Image.new("RGB", (30, 10), "red")
    wide.paste("blue", (10, 0, 20, 10))  # exactly the centred square
    assert (pixels(resize(wide, (10, 10), "center-crop")) == [0, 0, 255]).all()
    padded = pixels(resize(wide, (30, 30), "pad"))
    assert (padded[:10] == 255).all() and (padded[20:] == 255).all() and (padded[10:20, :10] == [255, 0, 0]).all()
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
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    (tmp_path / "cut.txt").write_text("x")
    made, report = run_import(tmp_path)
    assert [(p.id, p.captions, p.split) for p in made] == [
        ("a.PNG", ("a ramp", "a red and green ramp"), "train"), ("deep/b.jpg", ("another",), "train")]
    reasons = {entry["file"]: entry["reason"] for entry in report.skipped}
    assert set(reasons) == {"silent.png", "empty.png", "broken.png", "cut.png"}
    assert "no caption file silent.txt" in reasons["silent.png"] and "is empty" in reasons["empty.png"]


def test_report_reaches_the_archive(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b"):
        ramp().save(source / f"{name}.png")
        (source / f"{name}.txt").write_text(name)
    (source / "a.png").write_bytes(b"text")
    report = ImportReport()
    made = folder_pictures(find_sources(source, report), (4, 4), report)
    write_archive(tmp_path / "x.zip", made, (4, 4), folder_info(source, "center-crop", report))
    metadata = Archive(tmp_path / "x.zip").metadata
    assert [entry["file"] for entry in metadata["skipped"]] == ["a.png"] and len(metadata["items"]) == 1
    assert metadata["resize_filter"].startswith("lanczos") and metadata["transform"] == "center-crop"


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
    write_lines(tmp_path, {"file": "b.png", "captions": ["b", " second "], "split": "test"}, "",
                {"file": "a.png", "captions": ["a"]}, {"file": "gone.png", "captions": ["x"]},
                {"file": "mute.png", "captions": []})
    made, report = run_import(tmp_path)
    assert [(p.id, p.captions, p.split) for p in made] == [
        ("b.png", ("b", "second"), "test"), ("a.png", ("a",), "train")]
    assert report.skipped == [
        {"file": "gone.png", "reason": "no such file"}, {"file": "mute.png", "reason": "no captions"}]


@pytest.mark.parametrize("record, message", [
    ({"file": "a.png", "caption": ["a"]}, r"captions.jsonl, line 2: unknown key 'caption'; did you mean 'captions'\?"),
    ({"file": "a.png"}, "line 2: key 'captions' is missing"),
    ({"file": "a.png", "captions": "a"}, "line 2: 'captions' must be a list of texts"),
    ({"file": "a.png", "captions": [1]}, "line 2: 'captions' must be a list of texts"),
    ({"file": "../a.png", "captions": ["a"]}, "line 2: 'file' must be a path below"),
    ({"file": "a.png", "captions": ["a"], "split": "val"}, "line 2: 'split' must be one of train, test"),
    ({"file": "first.png", "captions": ["a"]}, "line 2: first.png is listed twice"),
    ('{"file": ', "line 2: not valid JSON"),
    ("[1, 2]", "line 2: expected"),
])
def test_wrong_captions_file_names_line_and_key(tmp_path, record, message):
    write_lines(tmp_path, {"file": "first.png", "captions": ["a"]}, record)
    with pytest.raises(UserError, match=message):
        find_sources(tmp_path, ImportReport())


def test_missing_and_empty_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_sources(tmp_path / "x", ImportReport())
    with pytest.raises(UserError, match="no pictures found"):
        find_sources(tmp_path, ImportReport())


def test_a_test_share_is_dealt_by_name_and_named_splits_stay(tmp_path):
    names = [f"{i}.png" for i in range(400)]
    test = {name for name in names if split_of(name, 0.2) == "test"}
    assert 50 < len(test) < 110 and test < {name for name in names if split_of(name, 0.5) == "test"}
    assert {split_of(name, 0.0) for name in names} == {"train"}
    for name in (kept := min(test), "other.png"):
        ramp().save(tmp_path / name)
    assert split_of("other.png", 0.2) == "train"
    (tmp_path / "captions.jsonl").write_text(json.dumps({"file": kept, "captions": ["a"]}) + "\n"
                                             + json.dumps({"file": "other.png", "captions": ["b"], "split": "test"}) + "\n")
    assert [s.split for s in find_sources(tmp_path, ImportReport())] == ["train", "test"]
    assert [s.split for s in find_sources(tmp_path, ImportReport(), 0.2)] == ["test", "test"]
