"""Zips and tars: every kind of damage is one error with archive, member and reason."""

import gzip
import pickle
import random
import zipfile

import pytest

from datasets.packed_files import PackedError, ZipFiles, tar_members
from dnnlib.errors import UserError
from tests.datasets.picture_bytes import tarred


def zipped(path, compression=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def patched(path, offsets, value):
    """Change the same bytes of the local header and of the central directory."""
    data = bytearray(path.read_bytes())
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    data[local + offsets[0]] = data[central + offsets[1]] = value
    path.write_bytes(data)
    return path


def fault(path, member="a"):
    with pytest.raises(PackedError) as caught:
        ZipFiles(path).read(member)
    assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return str(caught.value)


def test_members_of_a_sound_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for name in ("a.txt", "deep/", "deep/b.txt", "back\\slash.txt"):
            file.writestr(name, name)
    packed = ZipFiles(tmp_path / "x.zip")
    assert (
        list(packed.members) == ["a.txt", "deep/b.txt", "back/slash.txt"]
        and packed.read("deep/b.txt") == b"deep/b.txt"
    )
    assert pickle.loads(pickle.dumps(packed)).read("back/slash.txt") == b"back\\slash.txt"


def test_names_in_utf8_without_its_mark(tmp_path):
    path = zipped(tmp_path / "x.zip", **{"caf\u00e9": b"x"})
    # clear bit 11 of the flags, twice
    data = path.read_bytes().replace(b"\x14\x00\x00\x08", b"\x14\x00\x00\x00")
    assert data != path.read_bytes()
    path.write_bytes(data)
    assert zipfile.ZipFile(path).namelist() == ["caf\u251c\u2310"] and list(
        ZipFiles(path).members
    ) == ["caf\u00e9"]


def test_each_damage_of_a_zip(tmp_path):
    zipped(tmp_path / "x.zip", a=b"text " * 50)
    method, flags = (8, 10), (6, 8)
    assert "x.zip: a cannot be read (it is compressed by deflate64" in fault(
        patched(tmp_path / "x.zip", method, 9)
    )
    zipped(tmp_path / "x.zip", a=b"text " * 50)
    assert "a cannot be read (it is encrypted" in fault(patched(tmp_path / "x.zip", flags, 1))
    path = zipped(tmp_path / "x.zip", a=bytes(random.Random(0).randbytes(400)))
    data = bytearray(path.read_bytes())
    data[31:60] = b"\xff" * 29
    path.write_bytes(data)
    assert "x.zip: a cannot be read" in fault(path)
    path.write_bytes(data[:200])
    assert "cannot be read (not a whole zip archive: " in fault(path)
    assert "No such file" in fault(tmp_path / "none.zip")
    zipped(path, a=bytes(1 << 20))
    size = path.read_bytes().replace(
        (1 << 20).to_bytes(4, "little"), (1 << 31).to_bytes(4, "little")
    )
    path.write_bytes(size)
    assert "it would unpack to 2048 MiB" in fault(path)


def test_a_member_without_a_name_is_none(tmp_path):
    path = zipped(tmp_path / "x.zip", qq=b"x", b=b"y")
    path.write_bytes(path.read_bytes().replace(b"qq", b"\0q"))  # a name ends at the first zero byte
    assert list(ZipFiles(path).members) == ["b"]


def contents(path):
    """(contents of the members that can be read, the message on the damage)."""
    found = []
    try:
        for member in tar_members(path):
            found.append((member.name, member.read()))
    except PackedError as error:
        return found, error.reason
    return found, ""


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_sound_tars_of_every_compression(tmp_path, mode):
    path = tarred(tmp_path / "x.tar", ("a", b"1"), ("b/c", b"22"), mode=mode)
    assert contents(path) == ([("a", b"1"), ("b/c", b"22")], "")


def test_each_damage_of_a_tar(tmp_path):
    path = tarred(tmp_path / "x.tar", ("a", b"1" * 600), ("b", b"2" * 600))
    data = path.read_bytes()
    first = [("a", b"1" * 600)]
    for change, found, reason in (
        (data[:1000], [], "unexpected end of data"),
        (data[:2048], first, "unexpected end of data"),
        (data[:1536], first, "the end mark is missing"),
        (data[:1600], first, "truncated header"),
        (data[:1536] + b"x" * 512 + data[2048:], first, "invalid header|bad checksum"),
        (data + data, [*first, ("b", b"2" * 600)], "more follows after the end mark"),
        (b"no tar", [], "truncated header"),
        (gzip.compress(data, 0)[:2000], first, "ReadError|EOFError|unexpected end"),
        (b"", [], "the file is empty"),
    ):
        path.write_bytes(change)
        members, why = contents(path)
        assert members == found, reason
        assert any(word in why for word in reason.split("|")), (reason, why)


def test_mutated_archives_never_raise_anything_else(tmp_path):
    rng = random.Random(0)
    sound = [
        zipped(tmp_path / "x.zip", a=b"text " * 50, b=b"more").read_bytes(),
        tarred(tmp_path / "x.tar", ("a", b"1")).read_bytes(),
        tarred(tmp_path / "x.tar.gz", ("a", b"1" * 99), mode="w:gz").read_bytes(),
    ]
    path, whole = tmp_path / "mutated", 0
    for number in range(300):
        data = bytearray(sound[number % 3])
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.randrange(len(data))] if number % 7 == 0 else data)
        try:
            if number % 3:
                whole += len([member.read() for member in tar_members(path)]) > 0
            else:
                packed = ZipFiles(path)
                whole += len([packed.read(name) for name in packed.members]) > 0
        except PackedError:
            pass
    assert 20 < whole < 290
