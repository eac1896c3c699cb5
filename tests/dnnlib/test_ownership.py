"""The rules of ownership, and a replacement of a folder that is killed between its two moves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path, remove_leftovers, write_json, write_text
from dnnlib.ownership import (
    in_our_folder,
    json_lines_with,
    json_with,
    never,
    refuse_foreign,
    starting_with,
    whole_folder,
)

ROOT = Path(__file__).parents[2]
MARKED = whole_folder(lambda folder: ["mark", "a/b"])


def fill(folder, **files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_target_must_be_stated_to_be_ours(tmp_path):
    with pytest.raises(TypeError, match="ours"):
        atomic_path(tmp_path / "x", folder=True).__enter__()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "rule, theirs, ours",
    [
        (never, "x", None),
        (json_with("a", "b"), '{"a": 1}', '{"a": 1, "b": 2}'),
        (json_with("a"), "[" * 100_000, '{"a": 1}'),
        (json_with("a"), '["a"]', '{"a": 1}'),
        (json_lines_with("a"), '{"a": 1}\n{"b": 1}\n', '{"a": 1}\n{"a": 2}\n{"a'),
        (json_lines_with("a"), "notes", '{"a": 1}\n'),
        (starting_with("# Page"), "# Pag", "# Page 1"),
    ],
)
def test_files_are_ours_by_what_is_in_them(tmp_path, rule, theirs, ours):
    path = tmp_path / "x"
    path.write_text("")
    write_text(path, theirs, ours=rule)  # every rule allows the replacement of an empty file
    with pytest.raises(UserError, match="x .*, so it is left as it is; name another place"):
        write_text(path, "new", ours=rule)
    assert path.read_text() == theirs and [p.name for p in tmp_path.iterdir()] == ["x"]
    if ours:
        path.write_text(ours)
        write_text(path, "new", ours=rule)
        assert path.read_text() == "new"


def test_a_folder_is_ours_when_every_file_in_it_is(tmp_path):
    folder = fill(tmp_path / "x", **{"mark": "", "a/b": "", ".DS_Store": "", "a/._b": ""})
    refuse_foreign(folder, MARKED)
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="x also holds link, which this program did not write"):
        refuse_foreign(folder, MARKED)
    fill(folder, **{".git/config": "", "notes.txt": "", "z": ""})
    with (
        pytest.raises(UserError, match=r"also holds \.git/config, link, notes\.txt and 1 more"),
        atomic_path(folder, folder=True, ours=MARKED),
    ):
        raise AssertionError("refused before anything is made")
    refuse_foreign(fill(tmp_path / "empty", **{"deep/.DS_Store": ""}), MARKED)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file is a file, not a folder of ours"):
        refuse_foreign(tmp_path / "file", MARKED)


def test_what_cannot_be_read_is_left_as_it_is(tmp_path):
    def locked(path):
        raise PermissionError(13, "Permission denied", str(path))

    with pytest.raises(UserError, match=r"x cannot be read \(Permission denied\), so it is left"):
        refuse_foreign(fill(tmp_path, x="theirs") / "x", locked)


def test_what_comes_while_we_write_is_seen(tmp_path):
    folder = fill(tmp_path / "x", mark="old")
    with (
        pytest.raises(UserError, match="also holds thesis.txt"),
        atomic_path(folder, folder=True, ours=MARKED) as temporary,
    ):
        (temporary / "mark").write_text("new")
        (folder / "thesis.txt").write_text("irreplaceable")
    assert (folder / "mark").read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_file_never_takes_the_place_of_a_folder_or_of_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder is a folder, but a file"):
        write_json(tmp_path / "folder", {}, ours=in_our_folder)
    real = fill(tmp_path / "disk" / "real", mark="old")
    (tmp_path / "link").symlink_to(real)
    with atomic_path(tmp_path / "link", folder=True, ours=MARKED) as temporary:
        (temporary / "mark").write_text("new")
    assert (tmp_path / "link").is_symlink() and (real / "mark").read_text() == "new"


@pytest.mark.parametrize("failing", [1, 2])
def test_a_replacement_that_fails_half_way_puts_the_old_folder_back(tmp_path, monkeypatch, failing):
    folder = fill(tmp_path / "x", mark="old")
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(source)
        if len(calls) == failing:
            raise KeyboardInterrupt
        real(source, target)

    with (
        pytest.raises(KeyboardInterrupt),
        atomic_path(folder, folder=True, ours=MARKED) as temporary,
    ):
        (temporary / "mark").write_text("new")
        monkeypatch.setattr(os, "replace", replace)
    assert (folder / "mark").read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_killed_replacement_never_loses_the_old_folder(tmp_path, killed_at):
    folder = fill(tmp_path / "x", mark="old")
    code = (
        "import os, signal, sys\n"
        "from dnnlib.files import atomic_path\nfrom dnnlib.ownership import in_our_folder\n"
        "real, calls = os.replace, []\n"
        "def replace(*names):\n"
        "    calls.append(names)\n"
        f"    len(calls) == {killed_at} and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(*names)\n"
        "with atomic_path(sys.argv[1], folder=True, ours=in_our_folder) as temporary:\n"
        "    (temporary / 'mark').write_text('new')\n"
        "    os.replace = replace\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL and folder.exists() == (killed_at == 1)
    remove_leftovers(tmp_path)
    assert (folder / "mark").read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_whatever_a_library_raises_becomes_one_line():
    for error, words in (
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("two\nlines"), "two lines"),
        (RuntimeError(), "RuntimeError"),
        (FileNotFoundError(2, "No such file"), "No such file"),
        (ValueError("y" * 999), "y" * 200),
    ):
        with (
            pytest.raises(UserError) as caught,
            library_errors(lambda reason: UserError(f"a.png: {reason}")),
        ):
            raise error
        assert str(caught.value) == f"a.png: {words}"
    for error in (UserError("ours"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, library_errors(UserError):
            raise error
        assert caught.value is error
