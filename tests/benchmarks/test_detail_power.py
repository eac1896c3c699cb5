"""Enlarged pictures are told from sharp ones, and an input size that sees more tells more."""

import json

import numpy as np
import torch
from click.testing import CliRunner

from benchmarks.detail_power import blurred, main
from datasets.archive import Picture, write_archive


def test_an_enlarged_picture_keeps_its_means_and_loses_its_detail():
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 16, 16), generator=stream, dtype=torch.uint8)
    flat = torch.full((1, 3, 16, 16), 200, dtype=torch.uint8)
    assert torch.equal(blurred(flat, 4), flat)
    assert blurred(images, 4).float().std() < images.float().std() / 2


def test_the_record_has_a_row_for_each_input_size(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [
        Picture(
            rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            f"id{i}",
            ("noise",),
            "test" if i < 6 else "train",
        )
        for i in range(18)
    ]
    data, path = tmp_path / "noise.zip", tmp_path / "power.json"
    origin = {"name": "noise", "licence": "CC0", "resize_filter": "none", "source": "numpy"}
    write_archive(data, pictures, (32, 32), origin)
    call = [
        "--data",
        data,
        "--factor",
        "4",
        "--input-px",
        64,
        "--input-px",
        128,
        "--num-images",
        "4",
    ]
    done = CliRunner().invoke(
        main, [str(word) for word in (*call, "--json", path)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    record = json.loads(path.read_text())
    assert (record["side"], record["num_real"], record["num_images"]) == (32, 6, 4)
    assert [row["input_px"] for row in record["rows"]] == [64, 128]
    for row in record["rows"]:
        assert row["gap"] > 0  # noise without detail is another picture
