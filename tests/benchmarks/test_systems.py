"""The measuring script on miniature networks: what it runs, what it leaves out and says so."""

from __future__ import annotations

import torch

from benchmarks.systems import EncodedTexts, measure, table, training_step

CPU = torch.device("cpu")


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
