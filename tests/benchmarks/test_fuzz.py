"""benchmarks/fuzz.py: a short run finds nothing, the findings of longer runs stay mended, and the
script counts what it should.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import strategies as st

from benchmarks import fuzz
from benchmarks.fuzz_subjects import SUBJECTS
from dnnlib.errors import UserError

SLOW = ("config.json", "command lines", "explorer", "data set index")
NUM = {name: 15 if name in SLOW else 50 for name in SUBJECTS}
FINDINGS = sorted(Path(__file__).with_name("fuzz_findings").glob("*.json"))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_short_run_finds_nothing(subject, tmp_path):
    found = fuzz.run(subject, NUM[subject], 7, tmp_path)
    assert found.shortest == {} and found.counts.total() >= NUM[subject] // 2


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_findings_of_longer_runs_stay_mended(path, tmp_path):
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert fuzz.try_case(kept["subject"], kept["case"], tmp_path) in ("read", "refused")


def test_findings_are_counted_and_kept(monkeypatch, tmp_path):
    def read(case, folder):
        if case > 5:
            raise KeyError(case)
        if case > 3:
            raise UserError("no")

    subject = fuzz.SUBJECTS["views"]._replace(cases=st.integers(0, 99), read=read)
    monkeypatch.setitem(fuzz.SUBJECTS, "views", subject)
    found = fuzz.run("views", 90, 0, tmp_path)
    assert found.counts["finding"] > 50 and found.counts["read"] + found.counts["refused"] > 0
    fuzz.keep(found, "views", tmp_path / "kept")
    (path,) = (tmp_path / "kept").iterdir()
    kept = json.loads(path.read_text())
    assert kept["subject"] == "views" and 5 < kept["case"] < 10
    assert kept["place"].startswith("KeyError in test_fuzz.py:")
