"""The number of usable cores is the smaller of the affinity mask and a container's CPU quota."""

import os
from pathlib import Path

import pytest

from dnnlib.cores import num_cores


@pytest.mark.parametrize(
    "quota, cores",
    [("max 100000", 3), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 3)],
)
def test_the_smaller_of_affinity_and_quota(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda path: quota)
    assert num_cores() == cores


def test_a_system_without_a_quota(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(Path, "read_text", missing)
    assert num_cores() == 1
