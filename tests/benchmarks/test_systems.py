"""benchmarks/systems.py on tiny networks: what it measures, and the notes on what it leaves out."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmarks.systems import EncodedTexts, interleaved, measure, table, training_step

CPU = torch.device("cpu")


@pytest.mark.slow
def test_rows_are_measured_or_say_why_not():
    *_, result = measure(
        ["eidgan-tiny", "stylegan2-tiny"],
        [128, 16],
        batch=2,
        rounds=1,
        limit_gmac=0.01,
        train_batch=0,
        device=CPU,
    )
    rows = {(row["system"], row["resolution"]): row for row in result["forwards"]}
    assert len(rows) == 4 and result["training_steps"] == [] and result["batch"] == 2
    measured = rows["eidgan-tiny", 16]
    assert (
        measured["params"] > 30_000
        and 0 < measured["macs"] < 1e7
        and measured["median_s"] > 0
        and measured["peak_bytes"] >= 0
    )
    assert (
        rows["stylegan2-tiny", 128]["note"] == "one size only"
        and "median_s" not in rows["stylegan2-tiny", 128]
    )
    assert rows["eidgan-tiny", 128]["note"] == "more than 0.01 GMAC: not run"
    assert table(result).count("\n| ") == 5


def test_a_step_trains_the_recipe_with_texts_of_its_own_widths():
    step = training_step("vqcgan", 2, CPU)
    step()
    texts = EncodedTexts("small", 3)
    features = texts.encode_text(["a", "b"])
    assert (
        features.sentence.shape == (2, 256)
        and features.words.shape == (2, 16, 384)
        and features.mask.all()
    )


def test_calls_are_interleaved_and_the_table_names_what_did_not_run():
    order: list[str] = []
    calls = {name: partial(order.append, name) for name in "ab"}
    found = interleaved(calls, 2, torch.device("cpu"))
    assert (
        order == list("ababab")
        and found["a"]["min_s"] <= found["a"]["median_s"] <= found["a"]["max_s"]
    )
    row = {"system": "x", "resolution": 8, "params": 2e6, "macs": 1e9, "peak_bytes": 2**20} | found[
        "a"
    ]
    text = table(
        {
            "date": "d",
            "hardware": "h",
            "torch": "t",
            "rounds": 2,
            "batch": 1,
            "training_steps": [],
            "forwards": [row, {"system": "y", "resolution": 9, "note": "one size only"}],
        }
    )
    assert "| x | 8 | 2.0 M | 1.0 |" in text and "one size only" in text
