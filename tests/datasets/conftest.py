"""Tiny folders in the official layouts of COCO and CUB, with the defects of the real data sets."""

import json

import numpy as np
import pytest
from PIL import Image


def picture(path, colour=(200, 0, 0), size=(24, 16), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, quality=95)
    return path


@pytest.fixture
def coco_root(tmp_path):
    """COCO with 4 good pictures (one greyscale), one corrupt, one without captions, and captions
    without a picture.
    """
    images = tmp_path / "train2014"
    for number in (9, 25, 30, 34, 36, 49):
        picture(
            images / f"COCO_train2014_{number:012d}.jpg",
            mode="L" if number == 34 else "RGB",
            colour=(number, 0, 0),
        )
    damaged = images / "COCO_train2014_000000000036.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:800])
    texts = [
        (30, 2, "A second caption."),
        (30, 1, "  A vase\nof flowers. \n"),
        (9, 3, "Food in boxes."),
        (25, 4, "A giraffe."),
        (25, 8, " \n"),
        (34, 5, "A zebra."),
        (36, 6, "A woman."),
        (64, 7, "A clock."),
    ]
    numbers = (30, 9, 25, 34, 36, 49, 64)
    content = {
        "info": {"year": 2014},
        "licenses": [],
        "images": [
            {"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "width": 24, "height": 16}
            for n in numbers
        ],
        "annotations": [{"image_id": i, "id": n, "caption": c} for i, n, c in texts],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_train2014.json").write_text(json.dumps(content))
    return tmp_path


NAMES = [
    "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
    "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg",
    "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg",
    "002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg",
]


@pytest.fixture
def cub_root(tmp_path):
    """CUB_200_2011 with four pictures; the last one is greyscale, as some real ones are."""
    root = tmp_path / "CUB_200_2011"
    for number, name in enumerate(NAMES):
        picture(
            root / "images" / name,
            size=(40, 30),
            mode="L" if number == 3 else "RGB",
            colour=(50 * number, 0, 255),
        )
    (root / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(NAMES, 1)))
    (root / "train_test_split.txt").write_text("1 0\n2 1\n3 1\n4 0\n")
    (root / "bounding_boxes.txt").write_text(
        "1 10.0 5.0 8.0 4.0\n2 0.0 0.0 40.0 30.0\n3 30.0 20.0 10.0 10.0\n4 1.0 1.0 9.0 9.0\n"
    )
    (root / "classes.txt").write_text("1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n")
    return root


@pytest.fixture
def cub_text(tmp_path):
    """AttnGAN's text/CLASS/NAME.txt with carriage returns, an empty line and a Latin-1 byte."""
    for number, name in enumerate(NAMES):
        path = (tmp_path / "text" / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            b"".join(f"this bird is number {number}, caption {k}. \r\n".encode() for k in range(10))
            + b"\n"
        )
    path.write_bytes(b"a bird with a na\xefve look\n")
    return tmp_path / "text"
