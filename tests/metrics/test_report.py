"""Which scores of a run make a cell of `compare`."""

from __future__ import annotations

import json
import os

import pytest

from dnnlib.errors import UserError
from metrics.report import differences, read_runs, tabulate


def test_most_pictures_count_and_then_the_newest(tmp_path):
    def write(name, age, *records):
        lines = [json.dumps({"metric": "swd", "seed": 0, **record}) for record in records]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))

    write("a.jsonl", 0, {"value": 2.0, "num_generated": 1000})
    write("calc.jsonl", 9, *({"value": v, "num_generated": 1000} for v in (3.0, 4.0)))
    write("metric-swd.jsonl", 0, {"value": 5.0, "num_generated": 500})
    table = tabulate(read_runs([f"run={tmp_path}"]))
    assert table["run"]["swd"].mean == 2.0 and table["run"]["swd"].num_blocks == 1


def swd(value, seed=0, **fields):
    return {"metric": "swd", "value": value, "seed": seed, "num_generated": 1000, **fields}


def test_a_cell_is_made_of_one_network():
    """A training scores its newest snapshot after `calc` has scored an older one."""
    older = [swd(0.5, seed, snapshot_sha256="old") for seed in range(3)]
    cell = tabulate({"x": [*older, swd(0.1, snapshot_sha256="new")]})["x"]["swd"]
    assert (cell.mean, cell.num_blocks) == (0.1, 1)
    cell = tabulate({"x": [swd(0.1, images=2000), *older]})["x"]["swd"]
    assert (cell.mean, cell.num_blocks) == (0.5, 3)
    cell = tabulate({"x": [swd(0.2, images=1000), swd(0.1, images=2000)]})["x"]["swd"]
    assert (cell.mean, cell.num_blocks) == (0.1, 1)


def test_a_network_without_a_score_does_not_show_that_of_an_older_one():
    records = [swd(0.5, images=1000), swd(None, images=2000)]
    assert tabulate({"x": records, "y": [swd(1.0)]})["x"] == {}
    with pytest.raises(UserError, match="x hold swd; name one"):
        tabulate({"x": records})


def test_folders_of_an_unknown_network_are_blocks_by_their_pictures():
    """Their seed is not known, so all of them say 0."""
    records = [swd(float(n), images={"content_hash": str(n)}) for n in (1, 2, 3)]
    cell = tabulate({"x": [*records, swd(6.0, images={"content_hash": "3"})]})["x"]["swd"]
    assert (cell.mean, cell.num_blocks) == (3.0, 3)


def test_perceptual_distances_on_one_of_two_machines_do_not_part_two_runs():
    here, there = swd(1.0), swd(2.0, lpips=0.1, lpips_weights_sha256="a" * 64)
    assert not differences(tabulate({"x": [here], "y": [there]}))
