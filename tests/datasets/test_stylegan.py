"""Archives of StyleGAN's tools: reading, captions of labels, and writing for its loader."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.archive import INDEX, Picture, archive_fault, write_archive
from datasets.stylegan import LabelCaptions, open_archive, write_stylegan
from datasets.text_image import TextImageDataset
from datasets.verify import archive_faults
from dnnlib.errors import UserError
from tests.datasets.picture_bytes import saved

NAMES = [f"00000/img{i:08d}.png" for i in range(6)]
LABELS = [[name, number % 3] for number, name in enumerate(NAMES)]
PHOTO = LabelCaptions(template="a photo of a {}")


def encoded(number=0, mode="RGB", size=(8, 8), kind="PNG"):
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels).convert(mode), kind)


def put(path, files):
    """Write bytes by name into a compressed zip or a folder."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in files.items():
                file.writestr(name, data)
        return path
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def with_labels(path, labels=LABELS, **more):
    pictures = {name: encoded(i) for i, name in enumerate(NAMES)}
    return put(path, pictures | {INDEX: json.dumps({"labels": labels} | more).encode()})


@pytest.fixture(params=["set.zip", "set"])
def path(request, tmp_path):
    return tmp_path / request.param


@pytest.mark.parametrize("labels", [None, LABELS, [[name, [0.5, 1.0]] for name in NAMES]])
def test_labels_are_ignored_unless_captions_are_asked_for(path, labels):
    dataset = TextImageDataset(with_labels(path, labels))
    assert len(dataset) == 6 and dataset.splits == {"train"} and not dataset.has_captions
    assert dataset.resolution == (8, 8) and dataset.id(2) == NAMES[2]
    stored = np.array(Image.open(io.BytesIO(encoded(2))))
    assert np.array_equal(dataset[2].image.permute(1, 2, 0).numpy(), stored)


def test_labels_become_captions(path, tmp_path):
    def captions(labels=PHOTO):
        dataset = TextImageDataset(path, labels=labels)
        return [dataset.captions(i) for i in range(4)]

    with_labels(path)
    assert captions() == [
        ("a photo of a 0",),
        ("a photo of a 1",),
        ("a photo of a 2",),
        ("a photo of a 0",),
    ]
    for name, text in (
        ("names.txt", "cat\ndog\nold car\n"),
        ("names.json", '["cat", "dog", "old car", "x"]'),
        ("classes.json", '{"2": "old car", "0": "cat", "1": "dog"}'),
    ):
        (tmp_path / name).write_text(text)
        named = LabelCaptions(template="{}!", names=str(tmp_path / name))
        assert captions(named) == [("cat!",), ("dog!",), ("old car!",), ("cat!",)]


def test_the_hash_names_pictures_and_captions(path):
    def content(labels=PHOTO):
        return TextImageDataset(path, labels=labels).content_hash

    with_labels(path)
    before = content()
    assert before == content() != content(LabelCaptions(template="{}")) != content(LabelCaptions())
    with_labels(path, LABELS[::-1])  # the order of the labels does not matter
    assert content() == before
    changed = {name: encoded(i) for i, name in enumerate(NAMES)} | {NAMES[3]: encoded(3) + b"."}
    put(path, changed | {INDEX: json.dumps({"labels": LABELS}).encode()})
    assert content() != before


def test_bare_pictures_of_any_shape_and_both_colour_modes(path):
    files = {
        "a/1.png": encoded(1, size=(6, 4)),
        "b.jpg": encoded(2, size=(6, 4), kind="JPEG"),
        "c.webp": encoded(3, size=(6, 4), kind="WEBP"),
        "grey.png": encoded(4, "L", (6, 4)),
        "readme.txt": b"hello",
        "._a.png": b"junk",
        "__MACOSX/x.png": b"junk",
    }
    dataset = TextImageDataset(put(path, files))
    assert [dataset.id(i) for i in range(len(dataset))] == [
        "a/1.png",
        "b.jpg",
        "c.webp",
        "grey.png",
    ]
    assert dataset.resolution == (6, 4) and not dataset.has_captions
    grey = dataset[3].image
    assert grey.shape == (3, 4, 6) and torch.equal(grey[0], grey[2])
    assert list(archive_faults(path)) == []
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[3].image, grey)


def test_pictures_that_differ_are_named(path):
    files = {f"{i}.png": encoded(i) for i in range(5)}
    files |= {"1.png": encoded(size=(8, 4)), "2.png": encoded(mode="RGBA"), "3.png": b"text"}
    put(path, files)
    with pytest.raises(
        UserError,
        match=(
            r"3 of 5 pictures are not RGB or greyscale of 8x8 as the others: 1.png \(RGB 8x4\), "
            r"2.png \(RGBA 8x8\), 3.png \(unreadable .*\); .*dataset_tool.py folder --resolution"
        ),
    ):
        TextImageDataset(path)
    assert len(list(archive_faults(path))) == 1


def test_a_picture_that_was_not_looked_at_is_refused_when_it_is_due(path, monkeypatch):
    monkeypatch.setattr("datasets.stylegan.NUM_CHECKED", 2)
    dataset = TextImageDataset(
        put(path, {f"{i}.png": encoded(i, size=(8, 4 + 4 * (i != 1))) for i in range(6)})
    )
    with pytest.raises(UserError, match="1.png is RGB 8x4, but the data set has RGB or L 8x8"):
        dataset[1]
    assert list(archive_faults(path)) == ["1.png: size is 8x4, not 8x8"]


@pytest.mark.parametrize(
    "labels, message",
    [
        (None, "holds no class labels"),
        ([], "holds no class labels"),
        (LABELS[:-2], r"2 pictures are without a label: 00000/img00000004.png"),
        ([*LABELS, ["00000/x.png", 1]], "1 pictures are labelled but not there: 00000/x.png"),
        ([[NAMES[0], 0.5]], "labels must be a list of"),
        ([[NAMES[0], -1]], "labels must be a list of"),
        ({"a": 1}, "labels must be a list of"),
    ],
)
def test_labels_that_make_no_captions(tmp_path, labels, message):
    with pytest.raises(UserError, match=f"--caption-template.*{message}"):
        open_archive(with_labels(tmp_path / "a.zip", labels), PHOTO)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "cat\ndog\n",
            "names.txt: there is no name for label 2",
        ),
        ("cat\n\ndog\n", "there is no name for label 1"),
        (None, "names.txt: cannot be read"),
    ],
)
def test_class_names_that_do_not_fit(tmp_path, text, message):
    if text is not None:
        (tmp_path / "names.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        open_archive(
            with_labels(tmp_path / "a.zip"),
            LabelCaptions(template="{}", names=str(tmp_path / "names.txt")),
        )


def test_a_template_has_a_place_for_the_class():
    with pytest.raises(UserError, match="write {} where the class goes"):
        LabelCaptions(template="a photo")
    with pytest.raises(UserError, match="needs --caption-template"):
        LabelCaptions(names="names.txt")


def test_what_is_no_data_set_at_all(path):
    with pytest.raises(UserError, match="holds no dataset.json"):
        open_archive(put(path, {"a.txt": b"x"}))
    with pytest.raises(UserError, match="no pictures in it"):
        open_archive(put(path, {INDEX: b'{"labels": null}'}))
    with pytest.raises(UserError, match="is not of format 1"):
        open_archive(put(path, {"a.png": encoded(), INDEX: b'{"images": []}'}))


def test_archives_of_others_are_not_ours_to_replace(path):
    assert "is not a data set of this program" in (archive_fault(with_labels(path)) or "")


def ours(path, ids, size=(8, 8), captions=("a bird",), test=()):
    pictures = [
        Picture(
            np.full((size[1], size[0], 3), i, np.uint8),
            name,
            captions,
            "test" if name in test else "train",
        )
        for i, name in enumerate(ids)
    ]
    write_archive(path, pictures, size, {})
    return path


IDS = ["002.B/z", "001.A/y", "002.B/x", "003.C/w"]


def check_stylegan3_rules(path):
    """Check the rules of StyleGAN3's loader, and return the labels."""
    if path.is_dir():
        files = {
            file.relative_to(path).as_posix(): file.read_bytes()
            for file in path.rglob("*")
            if file.is_file()
        }
    else:
        with zipfile.ZipFile(path) as file:
            assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
            files = {info.filename: file.read(info) for info in file.infolist()}
    index = json.loads(files.pop("dataset.json"))
    assert sorted(files) == [f"{i // 1000:05d}/img{i:08d}.png" for i in range(len(files))]
    shapes = {
        np.array(Image.open(io.BytesIO(data), formats=["PNG"])).shape for data in files.values()
    }
    ((height, width, channels),) = shapes
    assert height == width and width & (width - 1) == 0 and channels == 3
    if index["labels"] is not None:
        assert {name for name, _ in index["labels"]} == set(files)
        assert all(type(label) is int for _, label in index["labels"])
    return index["labels"]


def test_written_for_stylegan3(path, tmp_path):
    source = ours(tmp_path / "own.zip", IDS, test=("003.C/w",))
    lines = write_stylegan(source, path, split="train", classes=False)
    assert check_stylegan3_rules(path) is None
    assert lines[0].startswith(f"{path}: 3 pictures of 8x8 for StyleGAN, no labels")
    assert lines[1:] == [
        "Left out 3 captions, for which the format has no place.",
        "Left out 1 pictures of the other split (--split all takes them).",
    ]
    first = TextImageDataset(path)[0].image
    assert torch.equal(first, TextImageDataset(source)[0].image)


def test_classes_are_numbered_and_read_back_by_name(path, tmp_path):
    lines = write_stylegan(ours(tmp_path / "own.zip", IDS), path, split="all", classes=True)
    assert check_stylegan3_rules(path) == [
        [name, label] for name, label in zip(NAMES, (1, 0, 1, 2), strict=False)
    ]
    assert "labels of 3 classes" in lines[0]
    assert TextImageDataset(path, labels=PHOTO).captions(3) == ("a photo of a 003.C",)


@pytest.mark.parametrize("size", [(8, 4), (12, 12)])
def test_what_stylegan_cannot_take_is_refused(tmp_path, size):
    source = ours(tmp_path / "own.zip", IDS, size)
    with pytest.raises(
        UserError,
        match=f"pictures are {size[0]}x{size[1]}, but StyleGAN takes squares of a power of two",
    ):
        write_stylegan(source, tmp_path / "new.zip", split="all", classes=False)
    assert os.listdir(tmp_path) == ["own.zip"]


def test_a_conversion_replaces_nothing_and_says_what_it_cannot(tmp_path):
    source = ours(tmp_path / "own.zip", ["a", "b"], captions=())
    with pytest.raises(UserError, match=r"2 of 2 ids have no folder CLASS/ \(a, b\)"):
        write_stylegan(source, tmp_path / "new.zip", split="all", classes=True)
    with pytest.raises(UserError, match="no picture has the split 'test'"):
        write_stylegan(source, tmp_path / "new.zip", split="test", classes=False)
    before = source.read_bytes()
    with pytest.raises(UserError, match="own.zip exists already"):
        write_stylegan(source, source, split="all", classes=False)
    assert source.read_bytes() == before and os.listdir(tmp_path) == ["own.zip"]
