"""WebDataset import: shards as img2dataset writes them, and their defects."""

import json

import pytest
from PIL import Image

from datasets.importing import import_pictures
from datasets.report import Report
from datasets.tar_shards import find_shards, shard_pictures
from dnnlib.errors import UserError
from tests.datasets.picture_bytes import saved, tarred


def jpeg(colour, mode="RGB"):
    return saved(Image.new("RGB", (20, 12), colour).convert(mode), "JPEG")


def write_shard(path, members):
    """Write a shard. contents: bytes, text, or a value that is written as JSON."""

    def encoded(data):
        return (
            data
            if isinstance(data, bytes)
            else (json.dumps(data) if isinstance(data, dict) else data).encode()
        )

    return tarred(path, *((name, encoded(data)) for name, data in members))


@pytest.fixture
def shards(tmp_path):
    write_shard(
        tmp_path / "00000.tar",
        [
            ("000000000.jpg", jpeg("red")),
            ("000000000.txt", " a red\r\nsquare "),
            ("000000000.json", {"caption": "other"}),
            ("000000001.jpg", jpeg("blue")),
            ("000000001.json", {"caption": "a blue square", "status": "success"}),
            ("000000002.jpg", jpeg("green", "L")),
            ("000000002.txt", "grey"),
            ("000000003.json", {"status": "failed_to_download", "error_message": "404"}),
            ("000000003.txt", "gone"),
            ("000000004.jpg", b"no jpeg"),
            ("000000004.txt", "damaged"),
            ("000000005.jpg", jpeg("red")),
            ("000000005.json", "{cut"),
        ],
    )
    write_shard(
        tmp_path / "00001.tar",
        [
            ("000000000.jpg", jpeg("white")),
            ("000000000.txt", "same key, other shard"),
            ("000000009.webp", jpeg("white")),
            ("000000009.txt", "second"),
        ],
    )
    return tmp_path


def test_samples_and_defects(shards):
    report = Report()
    made = list(
        import_pictures(shard_pictures(find_shards(shards), "test", report), (8, 8), report)
    )
    assert [(p.id, p.captions, p.split) for p in made] == [
        ("000000000", ("a red square",), "test"),
        ("000000001", ("a blue square",), "test"),
        ("000000002", ("grey",), "test"),
        ("00001/000000000", ("same key, other shard",), "test"),
        ("000000009", ("second",), "test"),
    ]
    assert report.counts == {
        "greyscale picture": 1,
        "captions without picture": 1,
        "damaged picture": 1,
        "damaged json": 1,
        "picture without captions": 1,
    }
    reasons = {entry["file"]: entry["reason"] for entry in report.skipped}
    assert reasons["00000.tar/000000003"] == "captions without picture: failed_to_download 404"


def test_a_cut_shard_gives_what_comes_before_the_cut(shards):
    path = shards / "00001.tar"
    path.write_bytes(path.read_bytes()[:1600])
    report = Report()
    assert len(list(shard_pictures([path], "train", report))) <= 1
    assert report.counts["damaged shard"] == 1


def test_patterns(shards):
    assert [path.name for path in find_shards(str(shards / "0000[1-9].tar"))] == ["00001.tar"]
    with pytest.raises(UserError, match="no .tar files there"):
        find_shards(str(shards / "x*.tar"))


def test_max_images_reports_the_same_for_any_number_of_threads(tmp_path):
    members = []
    for number in range(60):
        picture = b"no jpeg" if number % 7 == 1 else jpeg("red")
        members += [(f"{number:02d}.jpg", picture), (f"{number:02d}.txt", "red")]
        members += [(f"{number:02d}x.jpg", jpeg("red"))]  # without captions
    shard = write_shard(tmp_path / "0.tar", members)
    found = []
    for num_threads in (1, 2, 8):
        report = Report()
        raws = shard_pictures([shard], "train", report)
        made = import_pictures(raws, (8, 8), report, max_images=10, num_threads=num_threads)
        found.append(([one.id for one in made], report.counts))
    ids = [f"{number:02d}" for number in (0, 2, 3, 4, 5, 6, 7, 9, 10, 11)]
    counts = {"picture without captions": 11, "damaged picture": 2}
    assert found == [(ids, counts)] * 3


def test_a_depth_map_is_not_the_picture(tmp_path):
    maps = [("a.depth.png", jpeg("black")), ("a.jpg", jpeg("red")), ("a.mask.png", jpeg("white"))]
    only = [("b.0.jpg", jpeg("blue")), ("b.1.jpg", jpeg("green"))]
    texts = [("a.txt", "a red square"), ("b.txt", "a blue square")]
    shard = write_shard(tmp_path / "0.tar", [*maps, texts[0], *only, texts[1]])
    raws = list(shard_pictures([shard], "train", Report()))
    assert [(raw.id, raw.data) for raw in raws] == [("a", maps[1][1]), ("b", only[0][1])]


def test_a_member_without_a_name_is_left_out(tmp_path):
    shard = write_shard(
        tmp_path / "0.tar", [(".", b"x"), ("a.jpg", jpeg("red")), ("a.txt", "a red square")]
    )
    report = Report()
    assert [raw.captions for raw in shard_pictures([shard], "train", report)] == [("a red square",)]
