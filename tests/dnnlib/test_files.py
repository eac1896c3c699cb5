from __future__ import annotations

import pytest

from dnnlib.console import format_time
from dnnlib.errors import UserError
from dnnlib.files import append_json_line, atomic_path, read_json, read_json_lines, write_json


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"old": 1})
    with pytest.raises(RuntimeError):
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    assert read_json(target) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "folder"
    for name in ("one", "two"):
        with atomic_path(target, folder=True) as temporary:
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
    path.write_text('{"a": \n{"a": 2}\n')
    with pytest.raises(UserError, match="line 1"):
        read_json_lines(path)


def test_read_json_errors_name_the_file(tmp_path):
    with pytest.raises(UserError, match="missing.json does not exist"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="bad.json is not valid JSON"):
        read_json(tmp_path / "bad.json")


@pytest.mark.parametrize("seconds, text", [(7, "7s"), (185, "3m 05s"), (7390, "2h 03m 10s"), (439800, "5d 02h 10m")])
def test_format_time(seconds, text):
    assert format_time(seconds) == text
