"""Import of LSUN's databases: keys, categories, splits, damage, and the missing package."""

import io
import sys

import pytest
from PIL import Image

from datasets.archive import Archive
from tests.datasets.test_import_commands import run


def encoded(colour, kind="WEBP"):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 16), colour).save(buffer, kind)
    return buffer.getvalue()


def database(folder, values):
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(folder), map_size=1 << 24) as environment, \
            environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    (folder / "lock.mdb").unlink()
    return folder


def imported(tmp_path, *arguments):
    result = run("lsun", *arguments, "--dest", tmp_path / "x.zip", "--resolution", 16,
                 "--workers", 2)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_pictures_without_captions(tmp_path):
    source = database(tmp_path / "bedroom_train_lmdb",
                      {"0b": encoded("red"), "0a": encoded("blue", "JPEG"), "0c": b"damaged"})
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    result = imported(tmp_path, "--source", source, "--no-captions")
    assert result.exit_code == 0, result.output
    archive = Archive(tmp_path / "x.zip")
    assert [(one.id, one.captions, one.split) for one in archive.entries()] == [
        ("0a", (), "train"), ("0b", (), "train")]
    assert "Skipped bedroom_train_lmdb: 0c: cannot identify" in result.stdout
    assert archive.metadata["source"] == "LSUN bedroom_train_lmdb"
    assert run("verify", "--source", tmp_path / "x.zip").exit_code == 0
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before  # nor a lock file


def test_categories_become_captions_and_names_give_splits(tmp_path):
    train = database(tmp_path / "church_outdoor_train_lmdb", {"0a": encoded("red")})
    val = database(tmp_path / "church_outdoor_val_lmdb", {"0b": encoded("blue")})
    result = imported(tmp_path, "--source", train, "--source", val,
                      "--caption-template", "a photo of a {}")
    assert result.exit_code == 0, result.output
    assert [(one.captions, one.split) for one in Archive(tmp_path / "x.zip").entries()] == [
        (("a photo of a church outdoor",), "train"), (("a photo of a church outdoor",), "test")]
    result = imported(tmp_path, "--source", val, "--split", "train", "--no-captions")
    assert "(1 train, 0 test) with 0 captions" in result.stdout


@pytest.mark.parametrize("arguments, complaint", [
    ([], "LSUN has no captions; give either --no-captions or --caption-template"),
    (["--no-captions", "--caption-template", "a {}"], "give either --no-captions or"),
    (["--caption-template", "{}"], "such as 'a photo of a {}'"),
    (["--no-captions"], "data.mdb cannot be read as an LMDB ("),
])
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
    (source / "data.mdb").write_bytes(data[:len(data) // 2])
    result = imported(tmp_path, "--source", source, "--no-captions")
    assert result.exit_code == 1 and f"it has {len(data) // 2} of " in result.stderr


def test_without_the_package(tmp_path, monkeypatch):
    (tmp_path / "data.mdb").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    result = imported(tmp_path, "--source", tmp_path, "--no-captions")
    assert result.exit_code == 1 and "pip install lmdb" in result.stderr
