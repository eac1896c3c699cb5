"""Scores during training: written at every snapshot, and without a trace in the training."""

import json

import pytest
import torch

from configs import RECIPES
from metrics.protocols import PROTOCOLS
from tests.training.test_training import state_of, train


@pytest.mark.slow
def test_a_run_with_metrics_equals_one_without_bit_for_bit(openmoji32, tmp_path):
    plain, scored = tmp_path / "plain", tmp_path / "scored"
    train(plain, openmoji32, "--kimg", "0.032", "--metrics", "none")
    train(scored, openmoji32, "--kimg", "0.032", "--metrics", "kid_lite2,scale_x2", "--set", "metric_num=4")
    records = [json.loads(line) for line in (scored / "metric-kid_lite2.jsonl").read_text().splitlines()]
    assert [record["images"] for record in records] == [0, 16, 32] or [record["images"] for record in records] == [16, 32]
    assert all(record["overrides"] == {"num_images": 4} for record in records)
    a, b = state_of(plain), state_of(scored)
    for part in ("generator", "discriminator", "ema"):
        for name, value in a[part].items():
            assert torch.equal(value, b[part][name]), name


@pytest.mark.parametrize("name", set(RECIPES) - {"debug", "eidgan-openmoji32"})
def test_recipes_watch_a_cheap_proxy(name):
    config = RECIPES[name]()
    assert config.metrics == ("kid_lite2",) and config.metric_num <= PROTOCOLS["kid_lite2"].pictures.num_images
