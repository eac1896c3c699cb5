"""dataset_tool.py on files of other programs and systems.

Each file is read with the right value, or left out with a count and a reason.
"""

import json
import os
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from datasets import verify
from datasets.archive import Archive
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from tests.datasets.picture_bytes import BAD_FRACTION, BOMB, SWAPPED, saved, tarred
from tests.datasets.tool import run


def imported(dest, *arguments, exit_code=0):
    """Import a folder and return (captions by id, stdout)."""
    result = run(*arguments, "--dest", dest, "--resolution", 16, "--workers", 1)
    assert result.exit_code == exit_code, result.output
    if exit_code:
        assert (
            result.stderr.startswith("Error: ")
            and result.stderr.count("\n") == 1
            and not dest.exists()
        )
        return result.stderr, result.stdout
    assert result.stderr == "" and run("verify", "--source", dest).exit_code == 0
    return {entry.id: entry.captions for entry in Archive(dest).entries()}, result.stdout


def draw(path, colour=(200, 30, 60), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), colour).save(path, **options)
    return path


def beside(folder, name, text=b"a picture", **options):
    draw(folder / name, **options)
    (folder / name).with_suffix(".txt").write_bytes(text)


def data_of(kind, **options):
    return saved(Image.new("RGB", (20, 20), (200, 30, 60)), kind, **options)


def test_cub_captions_in_every_encoding(tmp_path):
    root, texts = (
        tmp_path / "CUB",
        {
            "A": b"this bird\x92s wing \x85 is red\n",
            "B": "a bird in another coding\n".encode("utf-16"),
            "C": "a\ufffd\ufffdred\ufffd\ufffdbird\n".encode(),
            "D": "\ufeffa plain bird".encode(),
        },
    )
    for name, data in texts.items():
        draw(root / "images" / "001.X" / f"{name}.jpg")
        (tmp_path / "text" / "001.X").mkdir(parents=True, exist_ok=True)
        (tmp_path / "text" / "001.X" / f"{name}.txt").write_bytes(data)
    (root / "images.txt").write_text(
        "".join(f"{n} 001.X/{name}.jpg\n" for n, name in enumerate(texts))
    )
    (root / "bounding_boxes.txt").write_text("".join(f"{n} 1.0 1.0 9.0 9.0\n" for n in range(4)))
    (root / "train_test_split.txt").write_bytes(
        "".join(f"{n} 1\n" for n in range(4)).encode("utf-16")
    )
    captions, told = imported(
        tmp_path / "x.zip", "cub", "--root", root, "--captions", tmp_path / "text"
    )
    assert captions == {
        "001.X/A": ("this bird\u2019s wing \u2026 is red",),
        "001.X/B": ("a bird in another coding",),
        "001.X/C": ("a red bird",),
        "001.X/D": ("a plain bird",),
    }
    for kind in (
        "bytes that are no UTF-8, read as Windows-1252",
        "pairs of U+FFFD, read as spaces",
        "text in UTF-16 or UTF-32",
    ):
        assert f"1 x text mended: {kind}" in told


def coco(folder, ids, split, encoding="utf-8", caption="thing {}"):
    for number in ids:
        draw(folder / split / f"{number:012d}.jpg", (number, 0, 0))
    content = {
        "images": [{"id": n, "file_name": f"{n:012d}.jpg"} for n in ids],
        "annotations": [{"id": n, "image_id": n, "caption": caption.format(n)} for n in ids],
    }
    (folder / f"captions_{split}.json").write_bytes(json.dumps(content).encode(encoding))
    return ["--images", folder / split, "--captions", folder / f"captions_{split}.json"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_coco_with_a_byte_order_mark(tmp_path, encoding):
    captions, _ = imported(tmp_path / "x.zip", "coco", *coco(tmp_path, [1, 2], "val2017", encoding))
    assert captions == {"1": ("thing 1",), "2": ("thing 2",)}


def test_half_an_emoji_in_json_does_not_stop_an_import_at_its_end(tmp_path):
    captions, told = imported(
        tmp_path / "x.zip", "coco", *coco(tmp_path, [1], "val2017", caption="a smile \ud83d {}")
    )
    assert (
        captions == {"1": ("a smile 1",)}
        and "1 x text mended: half a surrogate pair, left out" in told
    )


def test_pictures_of_both_splits_are_kept_in_test_alone(tmp_path):
    train, val = coco(tmp_path, [1, 2, 3], "train2017"), coco(tmp_path, [3, 4], "val2017")
    captions, told = imported(tmp_path / "x.zip", "coco", *train, *val)
    assert {entry.id: entry.split for entry in Archive(tmp_path / "x.zip").entries()} == {
        "1": "train",
        "2": "train",
        "3": "test",
        "4": "test",
    }
    assert "1 x picture of both splits" in told
    assert "Skipped 000000000003.jpg: picture of both splits: kept in test" in told
    same, _ = imported(
        tmp_path / "y.zip", "coco", *coco(tmp_path, [3, 4], "train2014"), *val, exit_code=1
    )
    assert "all 2 pictures of train are in test too, such as 000000000003.jpg" in same


def test_shared_pixels_and_ids_are_counted(tmp_path):
    (tmp_path / "in").mkdir()
    lines = [
        {"file": "a.png", "captions": ["a"]},
        {"file": "b.png", "captions": ["b"], "split": "test"},
    ]
    for line in lines:
        draw(tmp_path / "in" / line["file"])
    (tmp_path / "in" / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert (
        "1 x test picture whose pixels are in train too"
        in imported(tmp_path / "x.zip", "folder", "--source", tmp_path / "in")[1]
    )


def test_an_import_is_checked_before_it_takes_its_name(tmp_path, monkeypatch):
    beside(tmp_path / "in", "a.png")
    monkeypatch.setattr(
        verify, "archive_faults", lambda path: [f"{Archive(path).names[0]} is upside down"]
    )
    wrong, _ = imported(tmp_path / "x.zip", "folder", "--source", tmp_path / "in", exit_code=1)
    assert "fails its own check, so it is thrown away: 00000/img00000000.png is upside" in wrong


def test_what_a_phone_writes_is_imported(tmp_path):
    beside(tmp_path / "in", "phone.jpg", exif=BAD_FRACTION)
    beside(tmp_path / "in", "odd.jpg", exif=b"Exif\0\0XX")
    captions, told = imported(tmp_path / "x.zip", "folder", "--source", tmp_path / "in")
    assert len(captions) == 2 and "1 x metadata such as EXIF that cannot be read, ignored" in told


def test_hidden_files_and_other_kinds_in_a_shard(tmp_path):
    tarred(
        tmp_path / "0.tar",
        ("._0.jpg", b"Mac OS X"),
        ("0.jpg", data_of("JPEG")),
        ("0.txt", b"zero"),
        (".DS_Store", b"x"),
        ("1.gif", data_of("GIF")),
        ("1.txt", b"one"),
        ("./2.avif", data_of("AVIF")),
        ("./2.txt", "zw\u00f6lf".encode("utf-16")),
        ("3.heic", b"x"),
        ("3.txt", b"three"),
        ("4.jpg", data_of("JPEG")),
        ("4.json", b'{"caption": "half \\ud83d"}'),
        ("4.npy", b"x"),
    )
    captions, told = imported(tmp_path / "x.zip", "webdataset", "--source", tmp_path)
    assert captions == {"0": ("zero",), "1": ("one",), "2": ("zw\u00f6lf",), "4": ("half",)}
    for line in (
        "2 x hidden file or folder",
        "1 x file of another kind (.heic)",
        "1 x file of another kind (.npy)",
    ):
        assert line in told.splitlines()
    assert "Skipped 0.tar/3: captions without picture: .heic is not read here" in told


def test_hidden_files_and_other_kinds_in_a_folder(tmp_path):
    folder = tmp_path / "in"
    beside(folder, "a.jpe", format="JPEG")
    beside(folder, "sub/b.tga")
    for name in (
        "._a.jpe",
        ".DS_Store",
        "c.heic",
        "d.heic",
        "e.pdf",
        "README",
        "sub/__MACOSX/b.tga",
        ".ipynb_checkpoints/a.jpe",
        "f.txt",
    ):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"x")
    draw(tmp_path / "elsewhere" / "z.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    captions, told = imported(tmp_path / "x.zip", "folder", "--source", folder)
    assert sorted(captions) == ["a.jpe", "sub/b.tga"]
    for line in (
        "4 x hidden file or folder",
        "2 x file of another kind (.heic)",
        "1 x file of another kind (.pdf)",
        "1 x file of another kind (no ending)",
        "1 x text file without picture",
        "1 x linked folder (--follow-links reads it)",
    ):
        assert line in told.splitlines()
    (tmp_path / "elsewhere" / "z.txt").write_text("linked")
    assert (
        "linked/z.png"
        in imported(tmp_path / "y.zip", "folder", "--source", folder, "--follow-links")[0]
    )
    (folder / "captions.jsonl").write_text('{"file": "linked/z.png", "captions": ["z"]}\n')
    wrong, told = imported(tmp_path / "z.zip", "folder", "--source", folder, exit_code=1)
    assert "no usable picture" in wrong
    assert "Skipped linked/z.png: lies in the linked folder linked; --follow-links reads it" in told
    assert "2 x picture that captions.jsonl does not list" in told
    assert imported(tmp_path / "z.zip", "folder", "--source", folder, "--follow-links")[0] == {
        "linked/z.png": ("z",)
    }


@pytest.mark.parametrize(
    "on_disk, in_table",
    [(unicodedata.normalize("NFD", "caf\u00e9.png"), "caf\u00e9.png"), ("a/b.png", "a\\b.png")],
)
def test_names_of_other_systems(tmp_path, on_disk, in_table):
    draw(tmp_path / "in" / on_disk)
    (tmp_path / "in" / "captions.jsonl").write_text(
        json.dumps({"file": in_table, "captions": ["coffee"]}, ensure_ascii=False), "utf-16"
    )
    assert imported(tmp_path / "x.zip", "folder", "--source", tmp_path / "in")[0] == {
        on_disk: ("coffee",)
    }


def test_names_in_another_encoding_and_with_line_ends(tmp_path):
    folder = tmp_path / os.fsdecode(b"f\xf6lder")
    for name in (b"caf\xe9.png", b"two\nlines.png"):
        draw(folder / os.fsdecode(name))
        (folder / os.fsdecode(name)).with_suffix(".txt").write_text("a picture")
    (folder / os.fsdecode(b"x.b\xe4r")).write_text("x")
    dest = tmp_path / os.fsdecode(b"d\xe4ta.zip")
    captions, told = imported(dest, "folder", "--source", folder)
    assert (
        sorted(captions) == ["caf\u00e9.png", r"two\nlines.png"]
        and "1 x file of another kind (.b\u00e4r)" in told
    )
    assert Archive(dest).metadata["source"] == "folder f\u00f6lder"


def test_profiles_are_counted(tmp_path):
    beside(tmp_path / "in", "a.png", icc_profile=SWAPPED)
    beside(tmp_path / "in", "b.png", icc_profile=b"damaged")
    told = imported(tmp_path / "x.zip", "folder", "--source", tmp_path / "in")[1]
    assert "1 x colour profile converted to sRGB" in told
    assert "1 x colour profile that is damaged or of another kind" in told
    dataset = TextImageDataset(tmp_path / "x.zip")
    assert abs(np.subtract(dataset[0].image[:, 0, 0].tolist(), [30, 200, 60])).max() <= 1
    assert (
        dataset.info["colour_profiles"] == "convert"
        and dataset.info["defects"]["colour profile converted to sRGB"] == 1
    )
    assert (
        "2 x colour profile ignored"
        in imported(tmp_path / "y.zip", "folder", "--source", tmp_path / "in", "--icc", "ignore")[1]
    )
    assert TextImageDataset(tmp_path / "y.zip")[0].image[:, 0, 0].tolist() == [200, 30, 60]


def test_a_failed_import_prints_its_counts(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bomb.png").write_bytes(BOMB)
    (tmp_path / "in" / "bomb.txt").write_text("a bomb")
    draw(tmp_path / "in" / "silent.png")
    wrong, told = imported(tmp_path / "x.zip", "folder", "--source", tmp_path / "in", exit_code=1)
    assert "no usable picture" in wrong
    assert "1 x damaged picture\n1 x picture without captions\n" in told
    assert "Skipped bomb.png: DecompressionBombError: Image size (3600000000 pixels) exc" in told
    (tmp_path / "in" / "x.zip").write_bytes(b"")
    for path in (tmp_path / "in").glob("*.png"):
        path.unlink()
    wrong, _ = imported(tmp_path / "x.zip", "folder", "--source", tmp_path / "in", exit_code=1)
    counts = "1 x file of another kind (.zip), 1 x text file without picture"
    assert f"no pictures found ({counts})" in wrong


@pytest.mark.parametrize("damage", ["deflate64", "encrypted", "stream"])
def test_packed_data_sets_that_python_cannot_read_are_one_line(tmp_path, damage):
    beside(tmp_path / "in", "a.png")
    imported(tmp_path / "x.zip", "folder", "--source", tmp_path / "in")
    with (
        zipfile.ZipFile(tmp_path / "x.zip") as old,
        zipfile.ZipFile(tmp_path / "y.zip", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    data = bytearray((tmp_path / "y.zip").read_bytes())
    first, directory = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    if damage == "stream":
        start = first + 30 + len("00000/img00000000.png")
        data[start : start + 40] = b"\xff" * 40
    else:
        place, value = (8, 9) if damage == "deflate64" else (6, 1)
        data[first + place] = data[directory + place + 2] = value
    (tmp_path / "y.zip").write_bytes(data)
    result = run("verify", "--source", tmp_path / "y.zip")
    assert (
        result.exit_code == 1
        and result.stdout.count("\n") == 1
        and "y.zip: 00000/img00000000.png cannot be read (" in result.stdout
    )
    with pytest.raises(UserError, match="y.zip: 00000/img00000000.png cannot be read"):
        TextImageDataset(tmp_path / "y.zip")[0]
