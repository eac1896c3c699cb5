"""The networks that come with the repository."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

import generate
from dnnlib.errors import UserError
from networks import hub_snapshots
from networks.coordinates import View
from networks.interfaces import TextFeatures
from networks.shipped_networks import FOLDER, shipped_networks
from networks.snapshot import Snapshot
from networks.snapshot_folders import find_snapshot

NAMES = list(shipped_networks())


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_network_is_found_by_name_and_draws(name):
    snapshot = Snapshot.from_pretrained(name)
    config = snapshot.generator.config
    draws = torch.Generator().manual_seed(0)
    text = TextFeatures(
        torch.randn(2, config.sentence_dim, generator=draws),
        torch.randn(2, 4, config.word_dim or 8, generator=draws),
        torch.ones(2, 4, dtype=torch.bool),
    )
    z = torch.randn(2, *snapshot.generator.latent_shape, generator=draws)
    images = snapshot.generator(z, text, View(width=24, height=16))
    assert images.shape == (2, 3, 16, 24) and images.isfinite().all() and images.std() > 0.1
    assert snapshot.info["recipe"] and snapshot.info["kimg"] > 0
    weights = FOLDER / name / "model.safetensors"
    assert weights.stat().st_size < 8 << 20
    files = {path.name for path in (FOLDER / name).iterdir()}
    assert files - {hub_snapshots.DISCRIMINATOR} == {*hub_snapshots.FILES}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_its_encoder_is_the_one_of_its_training(name):
    snapshot = Snapshot.from_pretrained(name)
    encoder = snapshot.load_encoder()  # raises UserError where the weights differ
    text = encoder.encode_text(["a purple flower"] * 4 + ["a yellow flower"] * 4)
    draws = torch.Generator().manual_seed(0)
    z = torch.randn(4, *snapshot.generator.latent_shape, generator=draws)
    images = snapshot.generator(torch.cat([z, z]), text, View.square(snapshot.resolution))
    purple, yellow = images[:, 2].chunk(2)
    assert purple.mean() > yellow.mean() + 0.1  # more blue


def test_half_precision_weights_are_half_as_large_and_load_as_float32(tmp_path):
    snapshot = Snapshot.from_pretrained(NAMES[0])
    snapshot.save_pretrained(tmp_path / "whole")
    snapshot.save_pretrained(tmp_path / "half", half=True)
    sizes = [(tmp_path / part / "model.safetensors").stat().st_size for part in ("whole", "half")]
    assert sizes[1] < 0.55 * sizes[0]
    again = Snapshot.from_pretrained(tmp_path / "half").generator.state_dict()
    for name, tensor in snapshot.generator.state_dict().items():
        assert torch.equal(tensor, again[name]) and tensor.dtype == again[name].dtype


def test_a_local_path_of_the_name_takes_precedence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAMES[0]).mkdir()
    with pytest.raises(UserError, match="neither config.json nor"):
        find_snapshot(NAMES[0])


def test_the_list_names_them_and_an_unknown_name_too():
    listed = CliRunner().invoke(generate.main, ["--list-networks"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.output.splitlines()] == NAMES
    with pytest.raises(UserError, match=f"come with this repository: {', '.join(NAMES)}"):
        find_snapshot("flowers65")
