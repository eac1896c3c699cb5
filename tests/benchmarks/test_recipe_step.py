"""The training step of a recipe is timed at every batch size, with and without our operators."""

import json

import pytest
from click.testing import CliRunner

from benchmarks.recipe_step import main

LINE = ["--recipes", "debug", "--device", "cpu", "--seconds", "0.1", "--rounds", "3"]


def test_every_variant_has_a_row(tmp_path):
    record = tmp_path / "step.json"
    words = [*LINE, "--batches", "2,4", "--variants", "eager,ours", "--json", str(record)]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = json.loads(record.read_text())["rows"]
    assert [(row["batch"], row["variant"]) for row in rows] == [
        (batch, variant) for batch in (2, 4) for variant in ("eager", "ours")
    ]
    assert all("problem" not in row and row["ms_per_image"] > 0 for row in rows)


@pytest.mark.slow
def test_a_recipe_on_patches_is_timed():
    line = [word if word != "debug" else "eidgan-openmoji64-anyres" for word in LINE]
    done = CliRunner().invoke(main, [*line, "--batches", "2", "--variants", "eager"])
    assert done.exit_code == 0 and "problem" not in done.output, done.output


def test_graphs_are_refused_on_a_cpu_and_unknown_variants_anywhere():
    done = CliRunner().invoke(main, [*LINE, "--batches", "2", "--variants", "graph"])
    assert done.exit_code == 1 and "cpu devices have no CUDA graphs" in done.output
    done = CliRunner().invoke(main, [*LINE, "--variants", "fast"])
    assert done.exit_code == 1 and "--variants fast: expected some of eager, ours" in done.output
