"""benchmarks/fuzz_imports.py: its inputs are damaged, and it counts the results correctly."""

from __future__ import annotations

import random

import pytest

from benchmarks import fuzz_imports
from dnnlib.errors import UserError

NAMES = list(fuzz_imports.KINDS)


@pytest.mark.parametrize("name", NAMES)
def test_readers_take_or_refuse_damaged_files(name):
    outcomes = [fuzz_imports.outcome(name, seed) for seed in range(1_000_000, 1_000_030)]
    assert {what for what, _ in outcomes} <= {"read", "refused"}, outcomes
    assert all(reason for what, reason in outcomes if what == "refused")


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_read(name, tmp_path):
    kind = fuzz_imports.KINDS[name]
    for seed in range(3):
        file, data = kind.made(random.Random(seed))
        (tmp_path / file).write_bytes(data)
        kind.read(tmp_path / file)


@pytest.mark.parametrize("error,what", [(KeyError("x"), "traceback"), (UserError("x"), "refused")])
def test_outcomes_are_counted(monkeypatch, error, what):
    def read(path):
        raise error

    kind = fuzz_imports.KINDS["picture"]._replace(read=read)
    monkeypatch.setitem(fuzz_imports.KINDS, "picture", kind)
    assert fuzz_imports.outcome("picture", 0)[0] == what
