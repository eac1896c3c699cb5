"""TextImageDataset: pixels, captions, splits and errors."""

import json
import os
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.archive import Picture, write_archive
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError

SIZE = (6, 4)
IMAGES = np.random.default_rng(1).integers(0, 256, (4, SIZE[1], SIZE[0], 3), dtype=np.uint8)


@pytest.fixture(params=["set.zip", "set"])
def path(request, tmp_path):
    items = [
        Picture(image, f"id{i}", (f"c{i}",), "test" if i == 2 else "train")
        for i, image in enumerate(IMAGES)
    ]
    write_archive(tmp_path / request.param, items, SIZE, {"source": "s", "licence": "l"})
    return tmp_path / request.param


def test_records(path):
    dataset = TextImageDataset(path, split="all")
    assert len(dataset) == 4 and dataset.resolution == SIZE and dataset.name == "set"
    assert dataset.info["licence"] == "l" and "items" not in dataset.info
    for i in range(4):
        image, captions, name = dataset[i]
        assert image.dtype == torch.uint8 and image.shape == (3, 4, 6) and image.is_contiguous()
        assert np.array_equal(image.permute(1, 2, 0).numpy(), IMAGES[i])
        assert captions == (f"c{i}",) == dataset.captions(i) and name == f"id{i}"


def test_a_name_of_other_bytes_can_be_written(path):
    other = path.rename(path.with_name(os.fsdecode(b"caf\xe9.zip")))
    assert TextImageDataset(other).name == "caf\u00e9"


def test_pictures_without_captions(tmp_path, path):
    assert TextImageDataset(path).has_captions
    write_archive(tmp_path / "b.zip", [Picture(IMAGES[0], "a", (), "train")], SIZE, {})
    dataset = TextImageDataset(tmp_path / "b.zip")
    assert not dataset.has_captions and dataset[0].captions == () == dataset.captions(0)


def test_splits(path):
    assert [TextImageDataset(path, split="test")[0].id] == ["id2"]
    assert [record.id for record in map(TextImageDataset(path).__getitem__, range(3))] == [
        "id0",
        "id1",
        "id3",
    ]
    with pytest.raises(UserError, match="expected train, test or all"):
        TextImageDataset(path, split="val")


def test_split_without_pictures(tmp_path):
    write_archive(tmp_path / "a.zip", [Picture(IMAGES[0], "a", ("a",), "train")], SIZE, {})
    with pytest.raises(UserError, match=r"no picture has the split 'test' \(found: train\)"):
        TextImageDataset(tmp_path / "a.zip", split="test")


def test_hash_does_not_depend_on_path_or_split(tmp_path, path):
    moved = path.rename(tmp_path / f"moved{path.suffix}")
    assert (
        TextImageDataset(moved, split="test").content_hash
        == TextImageDataset(moved, split="all").content_hash
    )
    before = TextImageDataset(moved).content_hash
    assert TextImageDataset(moved.rename(path)).content_hash == before


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda file: Image.new("RGB", (5, 4)).save(file), "RGB 5x4, but the data set has RGB 6x4"),
        (lambda file: Image.new("L", (6, 4)).save(file), "L 6x4, but"),
        (lambda file: file.write_bytes(b"GIF89a nonsense"), "not a readable picture"),
        (lambda file: file.write_bytes(file.read_bytes()[:60]), "not a readable picture"),
        (lambda file: file.unlink(), "lists x.png, which is not there"),
    ],
)
def test_bad_picture_names_the_file(tmp_path, make, message):
    Image.fromarray(IMAGES[0]).save(tmp_path / "x.png")
    items = [{"file": "x.png", "id": "x", "captions": ["x"], "split": "train"}]
    (tmp_path / "dataset.json").write_text(
        json.dumps({"format": 1, "resolution": list(SIZE), "items": items})
    )
    assert TextImageDataset(tmp_path)[0].id == "x"
    make(tmp_path / "x.png")
    with pytest.raises(UserError, match=message) as caught:
        TextImageDataset(tmp_path)[0]
    assert "x.png" in str(caught.value) and "\n" not in str(caught.value)


def test_a_compressed_zip_made_by_hand_is_read(tmp_path):
    Image.fromarray(IMAGES[0]).save(tmp_path / "x.png")
    items = [{"file": "a/x.png", "id": "x", "captions": ["x"], "split": "train"}]
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(tmp_path / "x.png", "a/x.png")
        file.writestr(
            "dataset.json", json.dumps({"format": 1, "resolution": list(SIZE), "items": items})
        )
    assert np.array_equal(
        TextImageDataset(tmp_path / "a.zip")[0].image.permute(1, 2, 0).numpy(), IMAGES[0]
    )
