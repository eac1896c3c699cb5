from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib import files
from dnnlib.console import format_time, report_user_errors, tee_to
from dnnlib.errors import UserError
from dnnlib.files import (
    append_json_line,
    atomic_path,
    cache_folder,
    check_target,
    file_fact,
    locked,
    make_folder,
    read_json,
    read_json_lines,
    remove_leftovers,
    write_json,
)
from dnnlib.ownership import in_our_folder, never

ROOT = Path(__file__).parents[2]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"old": 1}, ours=never)
    with pytest.raises(RuntimeError), atomic_path(target, ours=in_our_folder) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "folder"
    for name in ("one", "two"):
        with atomic_path(target, folder=True, ours=in_our_folder) as temporary:
            (temporary / name).write_text(name)
    assert [p.name for p in target.iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_json_lines_drop_a_cut_last_line_only(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_json_lines(path) == []
    append_json_line(path, {"a": 1})
    with open(path, "a") as file:
        file.write('{"a": ')
    assert read_json_lines(path) == [{"a": 1}]
    append_json_line(path, {"a": 2})
    with pytest.raises(UserError, match="line 2: not valid JSON .*; delete that line"):
        read_json_lines(path)
    assert path.read_text().splitlines() == ['{"a": 1}', '{"a": ', '{"a": 2}']
    path.write_bytes(b'{"a": 1}\n{"b": "\xff\xfe')
    assert read_json_lines(path) == [{"a": 1}]
    for damage in (b'{"a": \n{"a": 2}\n', b'"\xff"\n{"a": 2}\n', b'7\n{"a": 2}\n'):
        path.write_bytes(damage)
        with pytest.raises(UserError, match="line 1"):
            read_json_lines(path)


def test_what_the_system_refuses_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "x.json"
    for write in (
        lambda: write_json(below, {}, ours=never),
        lambda: append_json_line(below, {}),
        lambda: make_folder(below),
        lambda: tee_to(below).__enter__(),
        lambda: locked(below).__enter__(),
    ):
        with pytest.raises(
            UserError, match=r"file/x.json: cannot be written \((Not a directory|File exists)\)"
        ):
            write()


@pytest.fixture
def small_files():
    """Limit the files of this process to 1 MiB, so that a larger write fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path, small_files):
    write_json(tmp_path / "a.json", {"old": 1}, ours=never)
    (tmp_path / "log.txt").write_bytes(bytes((1 << 20) - 3))
    with pytest.raises(
        UserError, match=r"a.json: cannot be written \(File too large\); free space"
    ):
        write_json(tmp_path / "a.json", "x" * (2 << 20), ours=in_our_folder)
    with pytest.raises(UserError, match="log.txt: cannot be written"), tee_to(tmp_path / "log.txt"):
        print("more than fits")
        print("one more")
    assert read_json(tmp_path / "a.json") == {"old": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "log.txt"]


def test_the_log_says_how_it_ended(tmp_path):
    for error in (UserError("--x: wrong"), KeyError("ours")):
        with pytest.raises(type(error)), tee_to(tmp_path / "log.txt"):
            print("started")
            raise error
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("started\nError: --x: wrong\nstarted\nTraceback") and text.endswith(
        "KeyError: 'ours'\n"
    )


def in_another_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_a_folder_has_one_user_at_a_time(tmp_path):
    code = "import sys; from dnnlib.files import locked\nwith locked(sys.argv[1]): pass"
    with locked(tmp_path):
        write_json(tmp_path / "a.json", {}, ours=never)
        assert "is in use by another process" in in_another_process(code, tmp_path).stderr
    assert in_another_process(code, tmp_path).returncode == 0


def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path):
    code = (
        "import os, signal, sys; from dnnlib.files import atomic_path; "
        "from dnnlib.ownership import never\n"
        "with atomic_path(sys.argv[1] + '/a.zip', ours=never), "
        "atomic_path(sys.argv[1] + '/b', folder=True, ours=never):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    (tmp_path / ".mine").write_text("")
    with atomic_path(tmp_path / "c.zip", ours=never) as busy:
        in_another_process(code, tmp_path)
        # The temporary file now looks like that of the parent process, which is alive.
        renamed = busy.with_name(busy.name.replace(str(os.getpid()), str(os.getppid())))
        os.rename(busy, renamed)
        assert len(list(tmp_path.iterdir())) == 4
        remove_leftovers(tmp_path, "a.zip")
        assert not list(tmp_path.glob(".a.zip*")) and len(list(tmp_path.glob(".b*"))) == 1
        remove_leftovers(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {".mine", renamed.name}
        remove_leftovers(tmp_path, exclusive=True)
        assert [p.name for p in tmp_path.iterdir()] == [".mine"]
        busy.write_text("")


def test_the_first_write_into_a_folder_deletes_what_killed_processes_left(tmp_path):
    """A killed command that is not repeated would leave its half-written file for ever."""
    killed, code = (
        tmp_path / "run",
        "import os, signal, sys; from dnnlib.files import atomic_path; "
        "from dnnlib.ownership import never\n"
        "with atomic_path(sys.argv[1], ours=never): os.kill(os.getpid(), signal.SIGKILL)",
    )
    in_another_process(code, killed / "a.mp4")
    (killed / ".notes").write_text("")
    assert len(list(killed.glob(".a.mp4.*"))) == 1
    write_json(killed / "b.json", {}, ours=never)
    assert sorted(path.name for path in killed.iterdir()) == [".notes", "b.json"]


def test_what_this_process_is_writing_is_no_leftover(tmp_path):
    """But what an earlier process with the same number left is one, as in a container."""
    with atomic_path(tmp_path / "folder", folder=True, ours=never) as busy:
        earlier = busy.with_name(busy.name.replace(files._START, "0123"))
        earlier.touch()
        write_json(tmp_path / "a.json", {}, ours=never)  # the first file here: leftovers go
        assert busy.is_dir() and not earlier.exists()
        write_json(busy / "b.json", {}, ours=never)
    assert (tmp_path / "folder/b.json").is_file()


def test_a_target_is_checked_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    check_target(tmp_path / "new" / "deep" / "a.txt", never)
    check_target(tmp_path / "folder", never, folder=True)
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "folder"}
    for target, words in (
        ("/proc/none/a.txt", "/proc/none/a.txt: cannot be written"),
        (tmp_path / "file" / "a.txt", "a.txt: cannot be written"),
        (tmp_path / "folder", "is a folder, but a file belongs there"),
        (tmp_path / "file", "exists already"),
        (tmp_path / ("n" * 300), r"cannot be written \(File name too long\)"),
    ):
        with pytest.raises(UserError, match=words):
            check_target(target, never)


def test_the_cache_moves_where_one_can_write(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cache_folder(tmp_path / "a", tmp_path / "b") == tmp_path / "a"
    assert not capsys.readouterr().err
    assert cache_folder(tmp_path / "file" / "a", tmp_path / "b") == tmp_path / "b"
    assert "are kept in" in capsys.readouterr().err


def test_read_json_errors_name_the_file(tmp_path):
    with pytest.raises(UserError, match="missing.json does not exist"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="bad.json is not valid JSON"):
        read_json(tmp_path / "bad.json")


def test_a_path_of_other_bytes_comes_back_from_json(tmp_path):
    value = {"data": os.fsdecode(b"caf\xe9.zip"), "name": "caf\u00e9 \U0001f34e"}
    write_json(tmp_path / "a.json", value, ours=never)
    append_json_line(tmp_path / "a.jsonl", value)
    assert read_json(tmp_path / "a.json") == value and read_json_lines(tmp_path / "a.jsonl") == [
        value
    ]
    assert "caf\u00e9 \U0001f34e" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_file_is_named_in_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(b"")
    assert file_fact(path).startswith("caf\u00e9.png (sha256 e3b0c442")


REFUSALS = ("EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ENOTDIR", "ELOOP")


@pytest.mark.parametrize("name", REFUSALS)
def test_a_path_that_the_system_refuses_is_one_line(name, capsys):
    @report_user_errors
    def command(*place):
        raise OSError(getattr(errno, name), "No", *place)

    with pytest.raises(SystemExit, match="1"):
        command("a/b\nc")
    remedy = "change its name or its rights, or name another place"
    assert capsys.readouterr().err == f"Error: a/b c: No; {remedy}\n"
    with pytest.raises(OSError):  # a socket, not a path
        command()


@pytest.mark.parametrize(
    "seconds, text", [(7, "7s"), (185, "3m 05s"), (7390, "2h 03m 10s"), (439800, "5d 02h 10m")]
)
def test_format_time(seconds, text):
    assert format_time(seconds) == text
