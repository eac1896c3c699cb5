"""Real pictures are scored against real ones: all rows exist, and copies are recognised."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.measure_floors import COPIES, MEASURES, main
from datasets.archive import Picture, write_archive


@pytest.mark.slow
def test_every_measure_has_its_floor(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [
        Picture(
            rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            f"id{i}",
            (f"thing {i // 2}",),
            "test" if i < 16 else "train",
        )
        for i in range(28)
    ]
    write_archive(
        tmp_path / "noise.zip",
        pictures,
        (32, 32),
        {"name": "noise", "licence": "CC0", "resize_filter": "none", "source": "numpy"},
    )
    record = tmp_path / "floors.json"
    done = CliRunner().invoke(
        main,
        ["--data", str(tmp_path / "noise.zip"), "--num-images", "8", "--json", str(record)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    rows = {(row["pictures"], row["metric"]): row for row in json.loads(record.read_text())["rows"]}
    halves = "half of test against the other half"
    assert set(rows) == {
        (name, measure) for name in ("train against test", halves) for measure in MEASURES
    } | {("half of test beside train", measure) for measure in COPIES}
    assert rows["train against test", "motif"]["value"] == pytest.approx(1, abs=0.2)
    assert rows["train against test", "swd"]["value"] > 0
    assert rows["half of test beside train", COPIES[0]]["value"] < 0.3
