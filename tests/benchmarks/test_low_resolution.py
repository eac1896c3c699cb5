"""Small views of a network are timed beside its large ones."""

import json

from click.testing import CliRunner

from benchmarks.low_resolution import main


def test_every_side_has_a_row(tmp_path):
    record = tmp_path / "low.json"
    line = ["--generator", "eidgan-tiny,cips-tiny", "--resolutions", "8,32", "--seconds", "0.1"]
    done = CliRunner().invoke(main, [*line, "--json", str(record)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = json.loads(record.read_text())["rows"]
    assert [(row["generator"], row["variant"]) for row in rows] == [
        (name, side) for name in ("eidgan-tiny", "cips-tiny") for side in ("32", "8")
    ]
    assert all("problem" not in row and row["cpu_ms"] > 0 for row in rows)


def test_one_side_is_refused():
    done = CliRunner().invoke(main, ["--generator", "eidgan-tiny", "--resolutions", "32"])
    assert done.exit_code == 1 and "give two sides in pixels or more" in done.output
