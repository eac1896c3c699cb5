"""benchmarks.ship: float16 weights with their scores in the card, and nothing lost by mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from benchmarks import ship
from networks.hub_snapshots import DISCRIMINATOR
from networks.snapshot import Snapshot


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """The folder of the shipped networks."""
    folder = tmp_path / "shipped"
    monkeypatch.setattr(ship, "FOLDER", folder)
    return folder


def call(openmoji32, source, name, *flags):
    arguments = [str(source), name, "--data", str(openmoji32), "--license", "mit", *flags]
    return CliRunner().invoke(ship.main, arguments)


def test_the_card_has_the_scores_of_the_stored_weights(openmoji32, network, shipped, tmp_path):
    source = tmp_path / "source"
    replace(Snapshot.from_pretrained(network), resolution=32).save_pretrained(source)
    record = tmp_path / "record.json"
    flags = ("--metrics", "motif", "--dataset", "Icons", "--json", str(record))
    done = call(openmoji32, source, "tiny", *flags)
    assert done.exit_code == 0, done.output
    row = json.loads(record.read_text())["rows"][0]
    assert row["snapshot_sha256"] == Snapshot.from_pretrained(shipped / "tiny").sha256
    card = (shipped / "tiny" / "README.md").read_text()
    assert '"motif"' in card and '"Icons"' in card and "--network tiny" in card
    half, full = (folder / "model.safetensors" for folder in (shipped / "tiny", source))
    assert half.stat().st_size < 0.7 * full.stat().st_size


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("../elsewhere", (), "a network's name has"),
        ("tiny", ("--metrics", "nothing"), "nothing"),
    ],
)
def test_a_mistake_leaves_the_networks_alone(openmoji32, network, shipped, name, flags, words):
    done = call(openmoji32, network, name, *flags)
    assert done.exit_code == 1 and words in done.output
    assert not shipped.exists()


def test_the_discriminator_of_an_older_network_is_not_lost_unseen(openmoji32, network, shipped):
    kept = shipped / "tiny" / DISCRIMINATOR
    Snapshot.from_pretrained(network).save_pretrained(
        shipped / "tiny", discriminator={"a": torch.ones(2)}
    )
    assert "(--init-from)" in (shipped / "tiny" / "README.md").read_text()
    before = kept.read_bytes()
    done = call(openmoji32, network, "tiny", "--metrics", "motif")
    assert done.exit_code == 1 and "--discriminator RUN" in done.output
    assert kept.read_bytes() == before
