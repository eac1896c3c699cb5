"""The benchmark of start-up: a row for each case and checkout, and a command that fails."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from benchmarks.start_up import HERE, main, row_of, run
from dnnlib.errors import UserError


@pytest.mark.slow
def test_rows_of_a_command_without_torch(tmp_path):
    arguments = [str(HERE), "--cases", "generate.py --list-networks", "--rounds", "1"]
    done = CliRunner().invoke(main, [*arguments, "--json", str(tmp_path / "record.json")])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "record.json").read_text())
    assert [row["side"] for row in record["rows"]] == ["before", "now"]
    for row in record["rows"]:
        assert 0 < row["cpu_s"] and 0 < row["wall_s"]
        assert 5 < row["anonymous_mib"] + row["file_mib"] <= row["peak_mib"] + 0.1 < 100


def test_medians_and_refusals(tmp_path):
    row = row_of("a", "now", [{"cpu_s": 1.0}, {"cpu_s": 9.0}, {"cpu_s": 2.0}])
    assert row == {"case": "a", "side": "now", "rounds": 3, "cpu_s": 2.0}
    (tmp_path / "generate.py").write_text("raise SystemExit('no such flag')")
    with pytest.raises(UserError, match=r"generate.py --help ended with 1 \(no such flag\)"):
        run(tmp_path, "generate.py --help", None)
    done = CliRunner().invoke(main, [str(tmp_path), "--cases", "explore"])
    assert done.exit_code == 1 and "--cases 'explore': choose from import torch;" in done.stderr
