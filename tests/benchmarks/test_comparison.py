"""The comparison page from real (tiny) runs, and the measuring script's table."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from benchmarks import comparison_runs
from benchmarks.comparison import Run, check_comparable, main, spread
from benchmarks.systems import interleaved, table
from configs import recipe
from dnnlib.errors import UserError
from networks.generators import preset
from training.launch import run


@pytest.fixture(scope="module")
def runs(tmp_path_factory, openmoji32):
    """Two seeds of a bi-line system and one of a system with one size, 8 images each, with a curve of scale_x2."""
    root, patch = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch()
    patch.setattr("faulthandler.enable", lambda: None)
    for kind, seed in (("creps", 0), ("creps", 1), ("stylegan2", 0)):
        config = replace(recipe("debug"), recipe=kind, generator=preset(f"{kind}-tiny"), seed=seed, data=str(openmoji32), device="cpu",
                         kimg=0.008, tick_kimg=0.008, metrics=("scale_x2",), metric_num=2, report_to=())
        assert run(config, root / f"{kind}-{seed}")
    patch.undo()
    return root


def compare(openmoji32, out, *folders, metrics="scale_x2,tile_exact"):
    return CliRunner().invoke(main, [*map(str, folders), "--data", str(openmoji32), "--metrics", metrics, "--num-images", "2",
                                     "--curve", "scale_x2", "--note", "Of today.", "--out", str(out)], catch_exceptions=False)


def test_the_page_from_run_folders(runs, openmoji32, tmp_path):
    out, folders = tmp_path / "comparison.md", sorted(runs.iterdir())
    assert compare(openmoji32, out, *folders).exit_code == 0
    text = out.read_text()
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines() if line.startswith("| `")}
    assert set(rows) == {"`creps`", "`stylegan2`"} and rows["`creps`"][0] == "0, 1" and rows["`stylegan2`"][0] == "0"
    assert " to " in rows["`creps`"][3] and rows["`stylegan2`"][3] == "-"  # scale_x2: one size only
    assert "All saw 8 images" in text and "`batch` 8, `augment.mode` ada" in text and "Of today." in text and "- `scale_x2`: creps " in text
    svg = (tmp_path / "pictures" / "comparison-curves.svg").read_text()
    assert svg.count("<polyline") == 3 and "stylegan2" in svg
    from PIL import Image

    with Image.open(tmp_path / "pictures" / "comparison.png") as picture:
        assert picture.size == (10 * 32, 3 * 32) and picture.text["rows"] == "real pictures\ncreps\nstylegan2"
    kept = (folders[0] / "comparison.jsonl").read_text()
    assert compare(openmoji32, out, *folders).exit_code == 0
    assert (folders[0] / "comparison.jsonl").read_text() == kept and out.read_text() == text


def test_runs_that_cannot_be_compared_are_refused():
    def one(folder, **fields):
        return Run(**dict(folder=folder, recipe="a", seed=0, images=8, hours=0.1, dataset_hash="x", curve=[], scores={}, settings={"batch": 8}) | fields)

    for fields, message in (({"images": 16}, "has seen 16 images"), ({"dataset_hash": "y"}, "other data"),
                            ({"settings": {"batch": 4}}, "with batch 4, r1 with 8"), ({}, "same recipe and seed")):
        with pytest.raises(UserError, match=message):
            check_comparable([one("r1"), one("r2", **fields)])
    check_comparable([one("r1"), one("r2", seed=1)])


def test_spread_over_seeds():
    assert spread([0.5]) == "0.5" and spread([1.0, 3.0, None]) == "2 (1 to 3)" and spread([None]) == "-"


def test_calls_are_interleaved_and_the_table_names_what_did_not_run():
    order = []
    found = interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 2, torch.device("cpu"))
    assert order == list("ababab") and found["a"]["min_s"] <= found["a"]["median_s"] <= found["a"]["max_s"]
    row = {"system": "x", "resolution": 8, "params": 2e6, "macs": 1e9, "peak_bytes": 2**20} | found["a"]
    text = table({"date": "d", "hardware": "h", "torch": "t", "rounds": 2, "batch": 1, "training_steps": [],
                  "forwards": [row, {"system": "y", "resolution": 9, "note": "one size only"}]})
    assert "| x | 8 | 2.0 M | 1.0 |" in text and "one size only" in text


def test_trainings_are_started_side_by_side_once_and_stop_at_a_failure(openmoji32, tmp_path):
    def train_all(*arguments):
        return CliRunner().invoke(comparison_runs.main, ["--data", str(openmoji32), "--outdir", str(tmp_path), "--kimg", "0.008", "--recipes", "debug",
                                                         "--seeds", "0,1", "--jobs", "2", "--", "--device", "cpu", "--report-to", "none", *arguments])

    assert train_all().exit_code == 0
    logs = [tmp_path / f"debug-seed{seed}" / "stats.jsonl" for seed in (0, 1)]
    before = [log.read_text() for log in logs]
    assert train_all().exit_code == 0 and [log.read_text() for log in logs] == before and before[0] != before[1]
    failed = train_all("--batch", "0")
    assert failed.exit_code == 1 and "debug-seed0: " in failed.stderr and "--batch" in failed.stderr and "Traceback" not in failed.stderr
