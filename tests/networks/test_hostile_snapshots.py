"""Snapshots that a stranger made to do harm: refused by name, before they cost memory or time."""

from __future__ import annotations

import json
import shutil
import struct

import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.weight_files import MAX_HEADER_BYTES
from networks.codes_file import codes_fault
from networks.generators import GENERATORS, preset
from networks.model_card import CardFields, model_card
from networks.snapshot import MAX_CONFIG_BYTES, Snapshot


@pytest.fixture
def edited(network, tmp_path):
    """A function that changes config.json of a copy of the network and returns the folder."""
    folder = tmp_path / "s"
    shutil.copytree(network, folder)

    def edit(change):
        path = folder / "config.json"
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))
        return folder

    return edit


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.update(resolution=True), "'resolution' must be of type int, got True"),
        (lambda c: c.update(resolution=10**12), "'resolution' must be from 1 to 65536 pixels"),
        (lambda c: c.update(text_encoder_id=["x"]), "'text_encoder_id' must be of type str"),
        (lambda c: c.update(code="import os"), "no such field as 'code'"),
        (lambda c: c["generator"].update(featurez=8), "config.json: generator.featurez: no such"),
        (lambda c: c["generator"].update(features=1 << 40), "'generator.features': 1099511627776"),
        (lambda c: c["generator"].update(channels=[16] * 9999), "'generator.channels': .* is more"),
        (
            lambda c: c["generator"].update(decoder_hidden=[-4]),
            "decoder_hidden: must be at least 1",
        ),
        (lambda c: c["generator"].update(features=60_000), "config.json asks for"),
        (lambda c: c["info"].update(x="x" * MAX_CONFIG_BYTES), "this is not a snapshot's config"),
    ],
)
def test_a_config_of_a_stranger(edited, change, message, monkeypatch):
    built = []
    kind = GENERATORS["eidgan"]
    build = kind.build

    def count(config):
        built.append(config)
        return build(config)

    monkeypatch.setattr(kind, "build", count)
    with pytest.raises(UserError, match=message):
        Snapshot.from_pretrained(edited(change))
    assert len(built) <= 1, "the network was built with memory"


def test_the_check_builds_no_tensor_with_memory(edited, monkeypatch):
    """`built` of the test above counts networks: the first is on torch's meta device."""
    devices = []
    kind = GENERATORS["eidgan"]
    build = kind.build

    def spy(config):
        network = build(config)
        devices.append(next(network.parameters()).device.type)
        return network

    monkeypatch.setattr(kind, "build", spy)
    Snapshot.from_pretrained(edited(lambda config: None))
    assert devices == ["meta", "cpu"]


@pytest.mark.parametrize("length", [MAX_HEADER_BYTES + 1, (1 << 64) - 1])
def test_a_header_without_bounds_is_refused_before_it_is_read(edited, length):
    folder = edited(lambda config: None)
    weights = folder / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", length) + weights.read_bytes()[8:])
    with pytest.raises(UserError, match=f"its header would have {length} bytes"):
        Snapshot.from_pretrained(folder)
    assert codes_fault(weights)


def test_weights_of_another_type_are_refused(edited):
    from safetensors.torch import load_file, save_file

    folder = edited(lambda config: None)
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v.to(torch.float8_e4m3fn) for k, v in tensors.items()}, folder / "x")
    (folder / "x").replace(folder / "model.safetensors")
    with pytest.raises(UserError, match="has the type torch.float8_e4m3fn"):
        Snapshot.from_pretrained(folder)


def test_facts_of_a_stranger_are_plain_text_in_a_card():
    generator = preset("eidgan-tiny").build()
    facts = {
        "recipe": "x\n---\n# <script>alert(1)</script>",
        "note": "a | b\n\n![x](http://example.org/x.png) `code` \x1b[2J" + "y" * 5000,
    }
    config = {
        "generator": {"kind": "eidgan"}, "text_encoder": "<b>", "text_encoder_id": "",
        "resolution": 16, "info": facts,
    }  # fmt: skip
    card = model_card(config, generator, "0", CardFields())
    assert card.count("\n---\n") == 1, "only the end of the head"
    plain = card.replace("\\<", "").replace("\\[", "").replace("\\|", "")
    body = plain.split("\n---\n")[1]
    assert "<" not in body and "![" not in body and "\x1b" not in card and len(card) < 4000
    (row,) = [line for line in body.splitlines() if line.startswith("| Note")]
    assert row.count("|") == 3
