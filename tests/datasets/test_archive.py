"""Archive: round trip as zip and folder, determinism, atomic writing, errors for damaged files."""

import json
import os
import pickle
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from datasets.archive import Archive, Picture, check_dest, write_archive
from datasets.verify import archive_faults
from dnnlib.errors import UserError

SIZE = (6, 4)


def pictures(count=5):
    rng = np.random.default_rng(0)
    for i in range(count):
        image = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        yield Picture(image, f"id{i}", (f"caption {i}", "caf\u00e9"), "test" if i == 0 else "train")


@pytest.fixture(params=["set.zip", "set"])
def written(request, tmp_path):
    path = tmp_path / request.param
    write_archive(path, pictures(), SIZE, {"source": "a test", "licence": "none"})
    return path


def test_round_trip(written):
    archive = Archive(written)
    assert archive.metadata["format"] == 1 and archive.metadata["source"] == "a test"
    assert archive.resolution == SIZE
    assert archive.names == [f"00000/img{i:08d}.png" for i in range(5)]
    entries = archive.entries()
    assert [e.file for e in entries] == archive.names
    assert (
        entries[0].captions == ("caption 0", "caf\u00e9")
        and [e.split for e in entries] == ["test"] + ["train"] * 4
    )
    assert all(archive.read(e.file).startswith(b"\x89PNG") for e in entries)


def test_zip_is_stored_and_index_comes_last(tmp_path):
    write_archive(tmp_path / "a.zip", pictures(), SIZE, {})
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert {m.compress_type for m in file.infolist()} == {zipfile.ZIP_STORED}
        assert file.infolist()[-1].filename == "dataset.json"


def test_same_input_gives_same_bytes_and_hash(tmp_path):
    for name in ("a.zip", "b.zip"):
        write_archive(tmp_path / name, pictures(), SIZE, {"source": "x"})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert Archive(tmp_path / "a.zip").content_hash() == Archive(tmp_path / "b.zip").content_hash()


def test_content_hash_sees_one_changed_pixel(tmp_path):
    write_archive(tmp_path / "a.zip", pictures(), SIZE, {})
    changed = list(pictures())
    changed[3].image[0, 0, 0] ^= 1
    write_archive(tmp_path / "b.zip", changed, SIZE, {})
    assert Archive(tmp_path / "a.zip").content_hash() != Archive(tmp_path / "b.zip").content_hash()


def test_a_folder_has_the_hash_of_a_zip_of_the_same_files_and_sees_every_changed_byte(tmp_path):
    write_archive(tmp_path / "a.zip", pictures(), SIZE, {})
    write_archive(tmp_path / "a", pictures(), SIZE, {})
    before = Archive(tmp_path / "a").content_hash()
    assert Archive(tmp_path / "a.zip").content_hash() == before
    picture = tmp_path / "a" / "00000" / "img00000003.png"
    size, times, data = picture.stat().st_size, picture.stat(), picture.read_bytes()
    picture.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` leaves them
    assert picture.stat().st_size == size and Archive(tmp_path / "a").content_hash() != before
    picture.write_bytes(data)
    assert Archive(tmp_path / "a").content_hash() == before


def test_a_folder_is_read_once_a_process_for_its_hash(tmp_path, monkeypatch):
    write_archive(tmp_path / "a", pictures(), SIZE, {})
    before = Archive(tmp_path / "a").content_hash()
    monkeypatch.setattr("zlib.crc32", None)
    assert Archive(tmp_path / "a").content_hash() == before


def test_pickle_drops_the_handle(written):
    archive = Archive(written)
    name = archive.names[2]
    copy = pickle.loads(pickle.dumps(archive))
    assert (copy.zip is None or copy.zip._handle is None) and copy.read(name) == archive.read(name)


@pytest.mark.parametrize("name", ["set.zip", "set"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_write_leaves_the_old_one_alone(tmp_path, name, error):
    def broken():
        yield from pictures(3)
        raise error

    with pytest.raises(error):
        write_archive(tmp_path / name, broken(), SIZE, {})
    assert list(tmp_path.iterdir()) == []
    write_archive(tmp_path / name, pictures(2), SIZE, {})
    before = Archive(tmp_path / name).content_hash()
    with pytest.raises(error):
        write_archive(tmp_path / name, broken(), SIZE, {})
    assert [p.name for p in tmp_path.iterdir()] == [name] and Archive(
        tmp_path / name
    ).content_hash() == before


def test_overwriting_replaces_the_whole(written):
    write_archive(written, pictures(2), SIZE, {})
    assert len(Archive(written).names) == 2


def test_no_pictures_writes_nothing(tmp_path):
    with pytest.raises(UserError, match="no usable picture"):
        write_archive(tmp_path / "a.zip", [], SIZE, {})
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_folder_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(UserError, match="mine is not a data set of this program .*dataset.json"):
        write_archive(tmp_path / "mine", pictures(), SIZE, {})
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="nothing.zip does not exist"):
        Archive(tmp_path / "nothing.zip")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_truncated_zip(tmp_path, keep):
    path = tmp_path / "a.zip"
    write_archive(path, pictures(), SIZE, {})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UserError, match="a.zip is not a whole zip archive: (?!not a)"):
        Archive(path)


def test_damaged_member_names_itself(tmp_path):
    path = tmp_path / "a.zip"
    write_archive(path, pictures(), SIZE, {})
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF  # inside the first picture
    path.write_bytes(data)
    with pytest.raises(UserError, match="img00000000.png cannot be read"):
        Archive(path).read("00000/img00000000.png")


def test_missing_index_says_what_to_run(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("picture.png", b"")
    (tmp_path / "plain").mkdir()
    for path in (tmp_path / "a.zip", tmp_path / "plain"):
        with pytest.raises(UserError, match="holds no dataset.json.*dataset_tool.py folder"):
            Archive(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not valid JSON"),
        ('{"labels": []}', "not of format 1"),
        ('{"format": 1, "resolution": 64, "items": []}', "resolution must be"),
        ('{"format": 1, "resolution": [64, 64]}', "items must be a list"),
    ],
)
def test_malformed_index(tmp_path, text, message):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=message):
        Archive(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"captions": None}, "captions must be a list"),
        ({"captions": "a cat"}, "must be a list"),
        ({"captions": ["  "]}, "is empty"),
        ({"split": "val"}, "split must be one of"),
        ({"id": 7}, "id must be a text"),
    ],
)
def test_malformed_entry_names_its_place(tmp_path, change, message):
    item = {"file": "a.png", "id": "a", "captions": ["a"], "split": "train"} | change
    index = {"format": 1, "resolution": [4, 4], "items": [item]}
    (tmp_path / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=rf"items\[0\].*{message}"):
        Archive(tmp_path).entries()


def without_captions(numbers):
    return [
        picture if i not in numbers else replace(picture, captions=())
        for i, picture in enumerate(pictures())
    ]


def test_captions_may_be_missing_from_all_pictures(tmp_path):
    write_archive(tmp_path / "a.zip", without_captions(range(5)), SIZE, {}, archive_faults)
    archive = Archive(tmp_path / "a.zip")
    assert {entry.captions for entry in archive.entries()} == {()}
    write_archive(tmp_path / "b.zip", pictures(), SIZE, {}, archive_faults)
    assert all(entry.captions for entry in Archive(tmp_path / "b.zip").entries())


def test_captions_of_some_pictures_alone_are_a_fault(tmp_path):
    write_archive(tmp_path / "a.zip", without_captions((1, 2)), SIZE, {})
    fault = (
        r"2 of 5 pictures have no captions \(00000/img00000001.png, 00000/img00000002.png\); "
        "give captions to all of them, or to none"
    )
    with pytest.raises(UserError, match=fault):
        Archive(tmp_path / "a.zip").entries()
    (found,) = archive_faults(tmp_path / "a.zip")
    assert re.search(fault, found)


@pytest.mark.parametrize("name", ["set.tar", "set.TAR", "set.tar.gz", "set.7z"])
def test_an_archive_of_another_kind_is_not_written(tmp_path, name):
    with pytest.raises(UserError, match=f"--dest .*{name}: .* name a .zip file or a folder"):
        check_dest(tmp_path / name)
    with pytest.raises(UserError, match="name a .zip file or a folder"):
        write_archive(tmp_path / name, pictures(), SIZE, {})
    assert not list(tmp_path.iterdir())
    check_dest(tmp_path / "set.v1.2")
