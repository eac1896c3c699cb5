"""The tables of the trained networks, from records."""

from docs.trained_tables import SCORES, detail, detail_power, learning_curve, shipped


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


def test_seeds_share_a_row_with_their_deviation():
    def row(network, minutes, value):
        score = {"value": value, "enlarged": value + 0.1}
        scores = {f"detail_x{factor}_lite2": score for factor in (2, 4, 8)}
        return {"network": network, "minutes": minutes, "scores": scores}

    rows = [row("start", None, 0.5), row("patches", 19.0, 0.25), row("patches", 21.0, 0.35)]
    lines = detail({"rows": rows}).splitlines()[2:]
    assert lines[0] == "| start | 1 | 0 | 0.500 (0.600) | 0.500 (0.600) | 0.500 (0.600) |"
    scores = ["0.300 +- 0.071 (0.400)"] * 3
    assert lines[1] == f"| patches | 2 | 20 | {' | '.join(scores)} |"


def test_an_input_size_has_a_row():
    row = {
        "input_px": 128,
        "kid_real": 0.5,
        "gap": 0.25,
        "gap_sd": 0.125,
        "gap_over_real": 0.5,
        "cpu_seconds_a_picture": 0.01,
    }
    record = {"data": "icons", "factor": 4, "rows": [row]}
    expected = "| icons, 4 | 128 | 0.5000 | 0.2500 +- 0.1250 | 0.5 | 0.010 |"
    assert detail_power(record).splitlines()[-1] == expected
