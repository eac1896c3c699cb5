"""The benchmark of warped views: its rows hold what it says, and it refuses what has no lines."""

import json

from click.testing import CliRunner

from benchmarks.line_tables import main


def test_the_error_falls_with_the_spacing(tmp_path):
    record = tmp_path / "tables.json"
    arguments = ["--networks", "eidgan-tiny", "--size", "48", "--per-cycle", "16,64"]
    done = CliRunner().invoke(main, [*arguments, "--json", str(record)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    coarse, fine = json.loads(record.read_text())["rows"]
    assert coarse["per_frame"] == 160 and fine["per_frame"] == 640
    assert 0 < fine["rms"] < coarse["rms"] / 2 and fine["rms"] < fine["q999"] < fine["max"]
    assert fine["exact_identity_max"] < 0.01


def test_a_network_without_lines_and_a_small_picture_are_refused():
    for arguments, line in (
        (["cips-tiny"], "cips-tiny: is not a bi-line network"),
        (["eidgan-tiny", "--size", "8"], "--size 8: has fewer pixels than the table has samples"),
    ):
        done = CliRunner().invoke(main, ["--networks", *arguments])
        assert done.exit_code == 1 and line in done.output and "Traceback" not in done.output
