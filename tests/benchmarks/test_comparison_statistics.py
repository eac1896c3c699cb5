"""Statistics of the comparison: spread, pooled scatter, ranking and differences."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.comparison import parse_pairs, read_record
from benchmarks.comparison_page import costs, equal_minutes, score_table
from benchmarks.comparison_statistics import differences, ranking, scatter, spread
from dnnlib.errors import UserError
from networks.generators import preset
from tests.benchmarks.made_up_runs import scored, trial_rows


def test_spread_over_seeds():
    assert (
        spread([0.5]) == "0.5"
        and spread([1.0, 3.0]) == "2 (1 to 3)"
        and spread([None]) == "none"
        and spread([0.0, 0.0]) == "0"
    )
    assert (
        spread([0.5, None]) == "0.5 (1 of 2 seeds)"
        and spread([1.0, 3.0, None]) == "2 (1 to 3; 2 of 3 seeds)"
    )


def test_scatter_is_pooled_and_decides_what_is_told_apart():
    found = scatter([[1.0, 3.0], [2.0, 2.0], [9.0]], seeds=2)
    assert (found.deviation, found.freedom) == (1.0, 2) and found.least == pytest.approx(
        4.3027, abs=1e-4
    )  # t of 97.5 % at 2 degrees
    assert scatter([[1.0], [2.0]], seeds=1) is None
    groups = scored("fid10k", a=[10.0, 12.0], b=[14.0, 14.0], c=[16.0, 16.0], d=[1.0, None])
    lines = ranking(groups, ["fid10k"])  # deviation sqrt(2 / 3), 3 degrees: least difference 2.598
    assert (
        lines[0]
        == "- `fid10k` (less is better): a 11, b 14, c 16. Not ranked, a seed has no value: d"
    )
    assert "| `fid10k` | 0.816 | 3 | 2 | 2.6 |" in lines and "some exceed it by chance" in lines[-1]
    groups = scored("clip_s", a=[10.0, 12.0], b=[13.0, 13.0], c=[16.0, 16.0], d=[15.0, 15.0])
    assert (
        ranking(groups, ["clip_s"])[0]
        == "- `clip_s` (more is better): c 16; no significant difference from the best: d 15; "
        "then b 13, a 11"
    )
    assert (
        "differences here may be chance"
        in ranking(scored("fid10k", a=[1.0], b=[2.0]), ["fid10k"])[-1]
    )


def test_a_difference_is_bold_where_it_is_larger_than_its_interval():
    groups = scored("kid_lite2", a=[0.30, 0.32, 0.34], b=[0.40, 0.42, 0.44], c=[0.33, 0.35, 0.37])
    lines = differences(groups, ["kid_lite2"], [("a", "b"), ("a", "c")])
    # Deviation 0.02 with 6 degrees of freedom: 2.447 x 0.02 x sqrt(2 / 3) = 0.04.
    assert lines[2] == "| `a` - `b` | **-0.1 \u00b1 0.04 (-24%)** |"
    assert lines[3] == "| `a` - `c` | -0.03 \u00b1 0.04 (-9%) |"
    # With one seed of c, 5 degrees and 4 values: 2.571 x 0.02 x sqrt(1 / 3 + 1).
    fewer = scored("kid_lite2", a=[0.30, 0.32, 0.34], b=[0.40, 0.42, 0.44], c=[0.35])
    assert "| -0.03 \u00b1 0.064 (-9%) |" in differences(fewer, ["kid_lite2"], [("a", "c")])[2]
    single = scored("swd", a=[30.0], b=[40.0])
    assert differences(single, ["swd"], [("a", "b")])[2] == "| `a` - `b` | - |"


def test_a_system_without_text_has_no_difference_in_text_scores():
    groups = scored("clip_r_small", a=[0.1, 0.2], b=[0.1, 0.2], blind=[9.0, 1.0])
    groups["blind"] = [replace(run, reads_text=False) for run in groups["blind"]]
    lines = differences(groups, ["clip_r_small"], [("a", "blind"), ("a", "b")])
    assert lines[2] == "| `a` - `blind` | no text |"
    # Deviation sqrt(0.005) of a and b alone, 2 degrees: 4.303 x 0.0707.
    assert lines[3] == "| `a` - `b` | +0 \u00b1 0.3 |"


def test_precision_and_recall_share_a_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "benchmarks.comparison_page.Snapshot.from_pretrained",
        lambda folder: type(
            "Fake",
            (),
            {"generator": type("G", (), {"config": preset("eidgan-tiny")}), "resolution": 32},
        ),
    )
    groups = scored("pr_lite2", a=[{"value": 0.5, "recall": 0.1}, {"value": 0.7, "recall": 0.3}])
    [row] = [line for line in score_table(groups, ["pr_lite2"]) if line.startswith("| `a`")]
    assert "| 0.6 (0.5 to 0.7); recall 0.2 (0.1 to 0.3) |" in row


def test_costs_compare_with_the_first_row():
    def row(recipe, ms, **fields):
        common = {"batch": 64, "dtype": "bf16", "variant": "eager"}
        return {"recipe": recipe, "ms_per_image": ms} | common | fields

    rows = [row("b", 30.0), row("a", 20.0)]
    record = {"machine": {"device": "a CPU"}, "rows": rows}
    groups = scored("swd", a=[1.0], b=[1.0], c=[1.0])
    lines = costs(groups, record)
    assert "| `b` | 30 | 1.00 |" in lines and "| `a` | 20 | 0.67 |" in lines
    assert any("batch 64, bf16, variant `eager`, one process on a CPU" in line for line in lines)
    assert costs(scored("swd", c=[1.0]), record) == []
    rows.append(row("a", 10.0, batch=256))
    with pytest.raises(UserError, match="several batches"):
        costs(groups, record)


def test_trials_at_equal_time_have_a_section_with_their_settings_and_scatter():
    rows = trial_rows(a=[1.0, 3.0], b=[10.0, 12.0])
    lines = equal_minutes({"date": "2026-11-27", "rows": rows})
    assert lines[0] == "## Equal processor minutes: 60 a run, 2026-11-27"
    assert any("was given 60 minutes" in line for line in lines) and "- `a`: `debug`" in lines
    assert "| `a` | 0, 1 | 8.5 (8 to 9) | 60 | 2 +- 1.4 |" in lines
    assert any("`a` is better than `b` by 9" in line for line in lines)


def test_a_record_of_another_benchmark_is_refused(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"benchmark": "recipe_step", "machine": {}, "rows": []}))
    assert read_record("--costs", path, "recipe_step")["rows"] == []
    with pytest.raises(UserError, match="--trials: .* a record of recipe_step, not of recipe tri"):
        read_record("--trials", path, "recipe trials")
    path.write_text("{}")
    with pytest.raises(UserError, match="--trials: "):
        read_record("--trials", path, "recipe trials")


def test_pairs_name_recipes_that_have_runs():
    assert parse_pairs("", {"a", "b"}) == []
    assert parse_pairs("a:b, b:a", {"a", "b"}) == [("a", "b"), ("b", "a")]
    for wrong in ("a", "a:c"):
        with pytest.raises(UserError, match="is not RECIPE:RECIPE of a, b"):
            parse_pairs(wrong, {"a", "b"})
