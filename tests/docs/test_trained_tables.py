"""The tables of the trained networks, from records."""

from docs.trained_tables import SCORES, learning_curve, shipped


def test_a_shipped_network_has_a_row_with_the_further_fields():
    further = {
        "pr_lite2": {"recall": 0.25},
        "clip_s_small_heldout": {"shuffled": 0.125},
        "clip_r_small": {"real": 0.5},
    }
    rows = [{"metric": name, "value": 0.75} | further.get(name, {}) for name in SCORES]
    record = {"network": "icons", "info": {"kimg": 706.048}, "rows": rows}
    row = shipped(record).splitlines()[-1]
    assert row == (
        "| `icons` | 706 | 0.75 | 0.75 | 0.75 / 0.250 | 0.75 | 0.75 | 0.75 (0.125) | 0.75 (0.500) |"
    )


def test_the_chosen_snapshot_is_bold():
    record = {
        "metrics": "swd,ppd",
        "best_kimg": 80.0,
        "rows": [
            {"kimg": 0.0, "scores": {"swd": 90.0, "ppd": None}},
            {"kimg": 80.0, "scores": {"swd": 40.0, "ppd": 0.5}},
        ],
    }
    lines = learning_curve(record).splitlines()
    assert lines[0] == "| kimg | `swd` | `ppd` |"
    assert lines[2:] == ["| 0 | 90 | none |", "| **80** | **40** | **0.5** |"]
