"""Import of LSUN's databases: keys, categories, splits, damage, and the missing package."""

import sys

import pytest
from PIL import Image

from datasets.archive import Archive
from datasets.importing import RawPicture
from datasets.lsun import category_and_split
from tests.datasets.picture_bytes import saved
from tests.datasets.tool import run


def encoded(colour, kind="WEBP"):
    return saved(Image.new("RGB", (20, 16), colour), kind)


def database(folder, values):
    lmdb = pytest.importorskip("lmdb")
    with (
        lmdb.open(str(folder), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in values.items():
            transaction.put(key.encode(), value)
    (folder / "lock.mdb").unlink()
    return folder


def imported(tmp_path, *arguments):
    result = run(
        "lsun", *arguments, "--dest", tmp_path / "x.zip", "--resolution", 16, "--workers", 2
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_pictures_without_captions(tmp_path):
    source = database(
        tmp_path / "bedroom_train_lmdb",
        {"0b": encoded("red"), "0a": encoded("blue", "JPEG"), "0c": b"damaged"},
    )
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    result = imported(tmp_path, "--source", source, "--no-captions")
    assert result.exit_code == 0, result.output
    archive = Archive(tmp_path / "x.zip")
    assert [(one.id, one.captions, one.split) for one in archive.entries()] == [
        ("0a", (), "train"),
        ("0b", (), "train"),
    ]
    assert "Skipped bedroom_train_lmdb: 0c: cannot identify" in result.stdout
    assert archive.metadata["source"] == "LSUN bedroom_train_lmdb"
    assert run("verify", "--source", tmp_path / "x.zip").exit_code == 0
    assert {
        path.name: path.read_bytes() for path in source.iterdir()
    } == before  # no lock file is written


def test_categories_become_captions_and_names_give_splits(tmp_path):
    train = database(tmp_path / "church_outdoor_train_lmdb", {"0a": encoded("red")})
    val = database(tmp_path / "church_outdoor_val_lmdb", {"0b": encoded("blue")})
    result = imported(
        tmp_path, "--source", train, "--source", val, "--caption-template", "a photo of a {}"
    )
    assert result.exit_code == 0, result.output
    assert [(one.captions, one.split) for one in Archive(tmp_path / "x.zip").entries()] == [
        (("a photo of a church outdoor",), "train"),
        (("a photo of a church outdoor",), "test"),
    ]
    result = imported(tmp_path, "--source", val, "--split", "train", "--no-captions")
    assert "(1 train, 0 test) with 0 captions" in result.stdout


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "LSUN has no captions; give either --no-captions or --caption-template"),
        (["--no-captions", "--caption-template", "a {}"], "give either --no-captions or"),
        (["--caption-template", "{}"], "such as 'a photo of a {}'"),
        (["--no-captions"], "data.mdb cannot be read as an LMDB ("),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, complaint):
    pytest.importorskip("lmdb")
    (tmp_path / "x_lmdb").mkdir()
    (tmp_path / "x_lmdb/data.mdb").write_bytes(b"x" * 9000)
    result = imported(tmp_path, "--source", tmp_path / "x_lmdb", *arguments)
    assert result.exit_code == 1 and complaint in result.stderr and result.stderr.count("\n") == 1
    result = imported(tmp_path, "--source", tmp_path, "--no-captions")
    assert "no data.mdb there; unpack" in result.stderr


def test_a_cut_database_is_refused_before_it_is_read(tmp_path):
    source = database(tmp_path / "a_lmdb", {f"{n:04d}": encoded((n, 0, 0)) for n in range(200)})
    data = (source / "data.mdb").read_bytes()
    (source / "data.mdb").write_bytes(data[: len(data) // 2])
    result = imported(tmp_path, "--source", source, "--no-captions")
    assert result.exit_code == 1 and f"it has {len(data) // 2} of " in result.stderr


def test_without_the_package(tmp_path, monkeypatch):
    (tmp_path / "data.mdb").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    result = imported(tmp_path, "--source", tmp_path, "--no-captions")
    assert result.exit_code == 1 and "pip install lmdb" in result.stderr


@pytest.mark.parametrize(
    "name, category, split",
    [
        ("bedroom_train_lmdb", "bedroom", "train"),
        ("church_outdoor_val_lmdb", "church_outdoor", "test"),
        ("Bedroom_TEST", "Bedroom", "test"),
        ("test_lmdb", None, "test"),
        ("val_lmdb", None, "test"),
        ("train_train_lmdb", "train", "train"),
        ("train_val_lmdb", "train", "test"),
        ("train_lmdb", "train", "train"),
        ("contest_lmdb", "contest", "train"),
        ("dining_table", "dining_table", "train"),
    ],
)
def test_what_a_name_says(name, category, split):
    assert category_and_split(name) == (category, split)


def test_the_official_test_set_has_no_category(tmp_path):
    source = database(tmp_path / "test_lmdb", {"0a": encoded("red")})
    result = imported(tmp_path, "--source", source, "--caption-template", "a photo of a {}")
    assert result.exit_code == 1 and "test_lmdb: its name says no category" in result.stderr
    result = imported(tmp_path, "--source", source, "--no-captions")
    assert "(0 train, 1 test) with 0 captions" in result.stdout


def test_max_images_takes_the_first_and_reads_little_more(tmp_path, monkeypatch):
    values = {f"{number:04d}": encoded((number, 0, 0), "PNG") for number in range(200)}
    source = database(tmp_path / "a_lmdb", values)
    made = []

    def raw(*arguments):
        made.append(arguments[0])
        return RawPicture(*arguments)

    monkeypatch.setattr("datasets.lsun.RawPicture", raw)
    result = imported(tmp_path, "--source", source, "--no-captions", "--max-images", 3)
    assert result.exit_code == 0, result.output
    archive = Archive(tmp_path / "x.zip")
    assert [one.id for one in archive.entries()] == ["0000", "0001", "0002"]
    assert "part" not in archive.metadata
    assert 3 <= len(made) <= 3 + 2 * 4, len(made)  # two threads, each four pictures ahead


def test_of_a_picture_in_both_splits_the_first_one_stays(tmp_path):
    sources = [
        database(tmp_path / f"a_{side}_lmdb", {"0a": encoded("red"), side: encoded("blue")})
        for side in ("train", "val")
    ]
    result = imported(tmp_path, "--source", sources[0], "--source", sources[1], "--no-captions")
    assert [(one.id, one.split) for one in Archive(tmp_path / "x.zip").entries()] == [
        ("0a", "train"),
        ("train", "train"),
        ("val", "test"),
    ]
    assert "1 x picture of both splits" in result.stdout
