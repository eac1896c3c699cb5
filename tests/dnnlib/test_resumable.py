"""Working folders: whose they are, and what stands in their way."""

import json
import tempfile

import pytest

from dnnlib.errors import UserError
from dnnlib.resumable import resumable_work

COMMAND = {"seed": "0", "size": "64x64"}


def work(folder, command=COMMAND):
    return resumable_work(folder, command, 4)


def test_finished_pieces_are_found_again(tmp_path, capsys):
    with work(tmp_path / "a.part") as one:
        one.finish_piece(7)
        one.finish_piece(2**40)
    with open(tmp_path / "a.part" / "done.bin", "ab") as file:
        file.write(b"half")
    with work(tmp_path / "a.part") as one:
        assert one.done == [7, 2**40]
        one.finish_piece(1)
    with work(tmp_path / "a.part") as one:
        assert one.done == [7, 2**40, 1]
        one.remove()
    assert "a.part: 3 of 4 pieces are done, going on" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_another_command_is_refused_by_name(tmp_path):
    with work(tmp_path / "a.part") as one:
        one.finish_piece(1)
    other = {"seed": "1", "size": "64x64", "prompt": "x"}
    with (
        pytest.raises(
            UserError,
            match=r"a.part is the unfinished run of another command "
            r"\(seed '0', prompt None; now seed '1', prompt 'x'\)",
        ),
        work(tmp_path / "a.part", other),
    ):
        pass
    with work(tmp_path / "a.part") as one:
        assert one.done == [1]


def test_two_processes_do_not_share_a_folder(tmp_path, monkeypatch):
    import fcntl

    def taken(*_):
        raise BlockingIOError

    with work(tmp_path / "a.part"):
        pass
    monkeypatch.setattr(fcntl, "lockf", taken)
    with (
        pytest.raises(UserError, match="a.part is in use by another process"),
        work(tmp_path / "a.part"),
    ):
        pass


@pytest.mark.parametrize(
    "name, text",
    [("notes.txt", "mine"), ("state.json", "{}"), ("state.json", json.dumps({"command": {}}))],
)
def test_a_folder_of_the_user_stays(name, text, tmp_path):
    folder = tmp_path / "a.part"
    folder.mkdir()
    (folder / name).write_text(text)
    with (
        pytest.raises(
            UserError,
            match="a.part holds no state.json of an unfinished run, so it is left as it is",
        ),
        work(folder),
    ):
        pass
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, text)]
    file = tmp_path / "b.part"
    file.write_text("mine")
    with pytest.raises(UserError, match="b.part holds no state.json"), work(file):
        pass
    assert file.read_text() == "mine"


def test_a_place_without_rights_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"), work(tmp_path / "file" / "a.part"):
        pass

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with (
        pytest.raises(
            UserError,
            match=r"a.part: cannot be written \(Permission denied\); free "
            "space or rights there",
        ),
        work(tmp_path / "a.part"),
    ):
        pass
