"""Files that a stranger made to do harm: each is refused or skipped by name, and nothing is read
that lies outside the folder.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import pytest
from PIL import Image

from datasets.archive import entry_fault
from datasets.folder import folder_pictures
from datasets.packed_files import (
    ALWAYS_ALLOWED_BYTES,
    MAX_RATIO,
    PackedError,
    ZipFiles,
    refuse_bombs,
    tar_members,
)
from datasets.picture_files import PictureError, load_rgb, load_stored, stored_header
from datasets.report import TOO_LONG, Report
from datasets.saved_arrow import _file_below
from datasets.source_files import LINKED_FILE, MissingFile, SourceFolder, is_below
from dnnlib.errors import UserError
from dnnlib.text import MAX_CAPTION
from tests.datasets.picture_bytes import png_chunk
from tests.datasets.tool import run

MIB = 1 << 20


def peak_mib(work):
    """Memory that Python takes during `work`, which must raise `PackedError` -> (MiB, message)."""
    tracemalloc.start()
    try:
        with pytest.raises(PackedError) as caught:
            work()
        return tracemalloc.get_traced_memory()[1] / MIB, str(caught.value)
    finally:
        tracemalloc.stop()


def bomb(path, method, declared=None):
    """A zip of 20 MiB of zeros. declared: the size that its index claims in place of the true."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("a.png", bytes(20 * MIB))
    if declared is not None:
        data = bytearray(path.read_bytes())
        for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            struct.pack_into("<I", data, data.index(mark) + place, declared)
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_bomb_in_a_zip_is_refused_before_it_is_unpacked(tmp_path, method):
    path = bomb(tmp_path / "x.zip", method)
    peak, message = peak_mib(lambda: ZipFiles(path).read("a.png"))
    assert peak < 2 and f"a.png cannot be read (it would unpack to more than {MAX_RATIO}" in message
    assert "20 MiB" in message and "unpack it yourself" in message
    with zipfile.ZipFile(path) as file, pytest.raises(ValueError, match="it would unpack to more"):
        refuse_bombs(file)


def test_a_zip_that_lies_about_sizes_is_unpacked_no_further_than_it_says(tmp_path):
    path = bomb(tmp_path / "x.zip", zipfile.ZIP_DEFLATED, declared=1000)
    peak, message = peak_mib(lambda: ZipFiles(path).read("a.png"))
    assert peak < 4 and "Bad CRC-32" in message


def test_members_that_shrink_well_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", bytes(MIB))
    assert ZipFiles(tmp_path / "x.zip").read("a.txt") == bytes(MIB)


def tar_of(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_bomb_in_a_tar_is_refused_before_it_is_unpacked(tmp_path, pack):
    path = tmp_path / "x.tar"
    path.write_bytes(pack(tar_of((tarfile.TarInfo("a.jpg"), bytes(ALWAYS_ALLOWED_BYTES + 1)))))
    peak, message = peak_mib(lambda: [member.read() for member in tar_members(path)])
    # Of bzip2 and LZMA, a block of 10 KiB is unpacked whole before the header is seen.
    assert peak < 12 or pack is not gzip.compress
    assert "a.jpg cannot be read (the tar would unpack to more than 16 MiB" in message


def test_a_bomb_of_zeros_after_the_end_mark_of_a_tar(tmp_path):
    path = tmp_path / "x.tar"
    whole = tar_of((tarfile.TarInfo("a.txt"), b"a cat"))
    path.write_bytes(gzip.compress(whole + bytes(ALWAYS_ALLOWED_BYTES - len(whole) - MIB)))
    assert [member.read() for member in tar_members(path)] == [b"a cat"]
    path.write_bytes(gzip.compress(whole + bytes(ALWAYS_ALLOWED_BYTES)))
    with pytest.raises(PackedError, match="the tar would unpack to more than 16 MiB"):
        list(tar_members(path))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_whose_header_is_a_bomb(tmp_path, kind):
    info = tarfile.TarInfo("a")
    info.type = kind
    (tmp_path / "x.tar").write_bytes(gzip.compress(tar_of((info, bytes(8 * MIB)))))
    peak, message = peak_mib(lambda: list(tar_members(tmp_path / "x.tar")))
    assert peak < 2 and "a header has 8388608 bytes" in message


def test_a_tar_with_a_negative_size_ends(tmp_path):
    header = bytearray(tarfile.TarInfo("a").tobuf())
    header[124:136] = b"\xff" * 12  # -1 in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(header + bytes(1024))
    with pytest.raises(PackedError, match="a size is negative"):
        list(tar_members(tmp_path / "x.tar"))


def test_links_in_a_tar_and_in_a_zip_lead_nowhere(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("password")
    links = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info = tarfile.TarInfo("a.txt")
        info.type, info.linkname = kind, str(secret)
        links.append((info, b""))
    (tmp_path / "x.tar").write_bytes(tar_of(*links))
    assert list(tar_members(tmp_path / "x.tar")) == []
    info = zipfile.ZipInfo("a.txt")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(info, str(secret))
    assert ZipFiles(tmp_path / "x.zip").read("a.txt") == str(secret).encode()


NAMES = ("../secret.png", "/etc/secret.png", "a/../../secret.png", "..\\secret.png", "\\\\host\\a")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_leave_the_folder(tmp_path, name):
    """They name nothing in tables and Arrow files; in a tar or zip they are only ids."""
    assert not is_below(name)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (tmp_path / "in").mkdir()
    assert _file_below(tmp_path / "in", name) is None
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "captions.csv").write_text(f'file,caption\n"{name}",x\na.png,y\n')
    report = Report()
    (found,) = folder_pictures(tmp_path / "in", report, 0.0)
    assert found.name == "a.png"
    assert [entry["reason"] for entry in report.skipped] == [
        "must be a path below the source folder"
    ], report.skipped


def test_arrow_rows_name_no_file_behind_a_link(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "in" / "b.png").write_bytes(b"x")
    (tmp_path / "in" / "a.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    names = ("a.png", "up/secret.png", "gone.png", "a\0b", "n" * 5000, None)
    assert [_file_below(tmp_path / "in", name) for name in names] == [None] * 6
    assert _file_below(tmp_path / "in", "b.png") == (tmp_path / "in" / "b.png").resolve()


def test_a_link_that_leads_nowhere_is_no_file_of_another_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out.png").write_bytes(b"x")
    (tmp_path / "in" / "a.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "out.png")
    source = SourceFolder(tmp_path / "in")
    for name, reason in (("a.png", "no such file"), ("b.png", "is a link to a file of another")):
        with pytest.raises(MissingFile, match=f"^{reason}"):
            source.find(name)


def test_a_linked_caption_file_is_not_read(tmp_path):
    (tmp_path / "secret").write_text("password")
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "a.txt").symlink_to(tmp_path / "secret")
    dest = tmp_path / "x.zip"
    run("folder", "--source", tmp_path / "in", "--dest", dest, "--resolution", "8x8")
    assert not dest.exists() or b"password" not in dest.read_bytes()
    report = Report()
    with pytest.raises(UserError, match="1 pictures without captions"):
        folder_pictures(tmp_path / "in", report)
    assert {"file": "a.txt", "reason": LINKED_FILE} in report.skipped


def bombs_of_pixels():
    side = struct.pack(">II", 60000, 60000)
    header = side + bytes([8, 2, 0, 0, 0])
    rows = png_chunk(b"IDAT", zlib.compress(bytes(MIB)))
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + rows + png_chunk(b"IEND", b"")
    bmp = b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
    bmp += struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    gif = b"GIF89a" + struct.pack("<HH", 60000, 60000) + b"\xf0\0\0" + bytes(6)
    return {
        "png": png,
        "bmp": bmp,
        "gif": gif + b"," + bytes(4) + b"\x01\0\x01\0\0\x02\x02L\x01\0;",
    }


@pytest.mark.parametrize("kind", ["png", "bmp", "gif"])
def test_pictures_of_too_many_pixels_are_refused_by_name(kind):
    for read in (load_rgb, load_stored, stored_header):
        with pytest.raises(PictureError, match=f"a.{kind} is not a readable picture.*3600000000"):
            read(bombs_of_pixels()[kind], f"a.{kind}")


def test_captions_that_are_too_long_are_counted_and_left_out():
    report = Report()
    assert report.clean(["x" * (MAX_CAPTION + 1), "y" * MAX_CAPTION]) == ("y" * MAX_CAPTION,)
    assert report.counts == {TOO_LONG: 1}
    item = {"file": "a.png", "id": "a", "captions": ["x" * (MAX_CAPTION + 1)], "split": "train"}
    assert "a caption has 20001 characters" in str(entry_fault(item))


def test_no_control_character_of_a_data_set_reaches_the_terminal(tmp_path):
    """A name in dataset.json or in a zip could move the cursor, or set the terminal's title."""
    evil = "\x1b]0;owned\x07\x9b2J.png"
    index = (
        '{"format": 1, "resolution": [8, 8], "items": [{"file": "FILE", "id": "\\u001b[2J", '
        '"captions": ["\\u001b[31mred\\n"], "split": 7}, {"file": "FILE", "id": "\\u001b[2J"}]}'
    )
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("dataset.json", index.replace("FILE", "\\u001b]0;owned\\u0007\\u009b2J.png"))
        file.writestr(evil, b"no picture")
    result = run("verify", "--source", tmp_path / "x.zip")
    printed = result.stdout + result.stderr
    assert "not a readable picture" in printed and "is not unique" in printed
    assert not [letter for letter in printed if letter < " " and letter != "\n" or letter == "\x9b"]
