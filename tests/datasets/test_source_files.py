"""Folders of users: hidden files, links, and names that another system spells differently."""

import os
import unicodedata

import pytest

from datasets.report import Report
from datasets.source_files import HIDDEN, LINKED_FOLDER, READ_ALREADY, MissingFile, SourceFolder
from dnnlib.errors import UserError


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_hidden_files_are_left_out_everywhere(tmp_path):
    fill(
        tmp_path,
        "a.png",
        "._a.png",
        ".DS_Store",
        "sub/b.JFIF",
        "sub/.ipynb_checkpoints/b-checkpoint.png",
        "__MACOSX/a.png",
        "sub/Thumbs.db",
        "notes.md",
        ".git/x.png",
    )
    source = SourceFolder(tmp_path)
    assert list(source.files) == ["a.png", "notes.md", "sub/b.JFIF"] and list(
        source.pictures()
    ) == ["a.png", "sub/b.JFIF"]
    assert sorted(source.left_out) == [
        (HIDDEN, name)
        for name in sorted(
            ["._a.png", ".DS_Store", "sub/.ipynb_checkpoints", "__MACOSX", "sub/Thumbs.db", ".git"]
        )
    ]


def test_links(tmp_path):
    fill(tmp_path / "elsewhere", "deep/a.png")
    folder = fill(tmp_path / "in", "b.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "c.png").symlink_to(folder / "b.png")
    (folder / "broken.png").symlink_to(tmp_path / "gone")
    (folder / "loop").symlink_to(folder)
    plain = SourceFolder(folder)
    assert list(plain.files) == ["b.png", "c.png"]
    assert sorted(plain.left_out) == [
        ("broken link or special file", "broken.png"),
        (LINKED_FOLDER, "linked"),
        (LINKED_FOLDER, "loop"),
    ]
    with pytest.raises(
        MissingFile, match="lies in the linked folder linked; --follow-links reads it"
    ):
        plain.find("linked/deep/a.png")
    followed = SourceFolder(folder, follow_links=True)
    assert list(followed.files) == ["b.png", "c.png", "linked/deep/a.png"] and followed.find(
        "linked/deep/a.png"
    )
    assert ("linked folder that was read already", "loop") in followed.left_out


@pytest.mark.parametrize("link", ["a", "z"])
def test_a_linked_folder_that_is_there_itself_is_read_once(tmp_path, link):
    """This does not depend on whether the system lists the link first or last."""
    fill(tmp_path, "m/x.png", "elsewhere/deep/y.png", "m/n/z.png")
    folder = tmp_path / "m"
    (folder / link).symlink_to(folder / "n")
    (folder / f"{link}1").symlink_to(tmp_path / "elsewhere" / "deep")
    (folder / f"{link}2").symlink_to(tmp_path / "elsewhere")
    source = SourceFolder(folder, follow_links=True)
    assert set(source.files) == {"x.png", "n/z.png", f"{link}1/y.png"}
    assert source.left_out == [(READ_ALREADY, link), (READ_ALREADY, f"{link}2/deep")]
    with pytest.raises(MissingFile, match=f"linked folder {link}, which was read under another"):
        source.find(f"{link}/z.png")


def test_a_report_of_what_is_left_out(tmp_path):
    folder = fill(tmp_path / "in", "a.png", "._a.png", ".git/x")
    (folder / "more").symlink_to(tmp_path)
    report = Report(strict=True)
    SourceFolder(folder).tell_left_out(report)
    assert report.counts == {HIDDEN: 2, LINKED_FOLDER: 1}
    assert report.skipped == [{"file": "more", "reason": LINKED_FOLDER}]


def test_an_option_that_a_command_lacks_is_not_named(tmp_path):
    fill(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "out")
    source = SourceFolder(tmp_path / "in", follow_links=None)
    assert set(source.files) == {"a.png"} and source.left_out == [("linked folder", "more")]
    with pytest.raises(MissingFile, match="^lies in the linked folder more$"):
        source.find("more/b.png")


@pytest.mark.parametrize(
    "on_disk, in_table",
    [
        (unicodedata.normalize("NFD", "caf\u00e9.png"), "caf\u00e9.png"),
        ("caf\u00e9.png", unicodedata.normalize("NFD", "caf\u00e9.png")),
        ("a/b.png", "a\\b.png"),
        ("a\\b.png", "a\\b.png"),
        ("a/b.png", "./a//b.png"),
        (os.fsdecode(b"caf\xe9.png"), "caf\u00e9.png"),
        (os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"caf\xe9.png")),
    ],
)
def test_the_file_that_a_table_means(tmp_path, on_disk, in_table):
    assert SourceFolder(fill(tmp_path, on_disk, "other.png")).find(in_table) == on_disk


@pytest.mark.parametrize(
    "name, reason",
    [
        ("gone.png", "^no such file$"),
        ("A.PNG", "no such file; there is a.png, in other letters"),
        ("", "no file name"),
        (None, "no file name"),
        (["a.png"], "no file name"),
        ("../a.png", "must be a path below"),
        ("/etc/passwd", "must be a path below"),
        ("..\\a.png", "must be a path below"),
        ("C:\\a.png", "must be a path below"),
        ("x" * 5000, "File name too long|no such file"),
        ("a\0.png", "no such file"),
        ("\ud83d.png", "no such file|surrogates"),
        (".hidden/a.png", "is hidden or lies in a hidden folder"),
        ("caf\u00e9\\x.png", "several files have that name"),
    ],
)
def test_why_a_file_is_missing(tmp_path, name, reason):
    source = SourceFolder(
        fill(tmp_path, "a.png", ".hidden/a.png", "caf\u00e9/x.png", "cafe\u0301/x.png")
    )
    with pytest.raises(MissingFile, match=reason) as caught:
        source.find(name)
    assert "\n" not in str(caught.value)


def test_other_sources_are_named(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(UserError, match="--source .*none: no such folder"):
        SourceFolder(tmp_path / "none")
    with pytest.raises(
        UserError, match="--images .*x.zip: is a file, not a folder; unpack it first"
    ):
        SourceFolder(tmp_path / "x.zip", "--images")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_that_cannot_be_read_are_named(tmp_path):
    fill(tmp_path, "a.png", "locked/b.png")
    (tmp_path / "locked").chmod(0)
    source = SourceFolder(tmp_path)
    (tmp_path / "locked").chmod(0o755)
    assert source.left_out == [("folder that cannot be read", "locked")]
