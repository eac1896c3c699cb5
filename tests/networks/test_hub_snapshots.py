"""Snapshots on the Hugging Face Hub: the real client talks to a local stand-in for its API."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

import generate
from dnnlib.errors import UserError
from networks import hub_snapshots
from networks.generators import preset
from networks.model_card import CardFields
from networks.snapshot import Snapshot
from tests.networks.hub_server import running
from training.transfer import find_discriminator, start_from


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, and the client of this process pointed at it, with an empty cache."""
    from huggingface_hub import constants

    with running() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.chdir(tmp_path)
        yield server


def same_weights(one, other):
    own, its = one.generator.state_dict(), other.generator.state_dict()
    return own.keys() == its.keys() and all(torch.equal(own[name], its[name]) for name in own)


def record_of(snapshot, **changes):
    return {
        "metric": "kid_lite2",
        "value": 0.25,
        "snapshot_sha256": snapshot.sha256,
        "dataset": {"name": "openmoji32"},
    } | changes


def test_what_was_pushed_comes_back(hub, network, tmp_path):
    snapshot = Snapshot.from_pretrained(network)
    scores = tmp_path / "scores.jsonl"
    scores.write_text(json.dumps(record_of(snapshot)) + "\n", encoding="utf-8")
    url = snapshot.push_to_hub(
        "alice/icons", license="cc-by-sa-4.0", datasets=["openmoji"], scores=scores, token="hf_test"
    )
    sha, files = hub.repositories["alice/icons"]["main"]
    assert url == f"{hub.url}/alice/icons/commit/{sha}" and set(files) == {*hub_snapshots.FILES}

    loaded = Snapshot.from_pretrained("alice/icons")
    assert same_weights(loaded, snapshot) and loaded.info == snapshot.info
    assert loaded.sha256 == snapshot.sha256


def test_the_card_has_the_fields_that_the_hub_shows(hub, network, tmp_path):
    from huggingface_hub import ModelCard

    snapshot = Snapshot.from_pretrained(network)
    scores = tmp_path / "scores.jsonl"
    scores.write_text(json.dumps(record_of(snapshot)) + "\n", encoding="utf-8")
    snapshot.push_to_hub(
        "alice/icons", license="cc-by-sa-4.0", datasets=["openmoji"], scores=scores, token="hf_test"
    )
    text = hub.repositories["alice/icons"]["main"][1]["README.md"].decode()
    card = ModelCard(text).data  # the Hub's own reader
    assert (card.library_name, card.pipeline_tag) == ("eidgan", "text-to-image")
    assert (card.license, card.datasets) == ("cc-by-sa-4.0", ["openmoji"])
    assert card.metrics == ["kid_lite2"] and {"gan", "eidgan"} <= {*card.tags}
    [result] = card.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == (
        "openmoji32",
        "kid_lite2",
        0.25,
    )
    assert "--network alice/icons" in text


def test_the_card_of_a_model_without_text(tmp_path):
    from huggingface_hub import ModelCard

    generator = replace(preset("eidgan-tiny"), sentence_dim=0, word_dim=0).build()
    snapshot = Snapshot(generator, "", 16)
    snapshot.save_pretrained(tmp_path / "s")
    record = record_of(snapshot)
    snapshot.save_pretrained(tmp_path / "s", CardFields(license="mit", scores=[record]))
    card = ModelCard((tmp_path / "s" / "README.md").read_text(encoding="utf-8"))
    assert card.data.pipeline_tag == "unconditional-image-generation"
    assert card.data.eval_results[0].task_type == card.data.pipeline_tag
    assert card.data.datasets is None and "--prompts" not in card.text


def test_a_score_of_other_weights_is_refused(hub, network, tmp_path):
    snapshot = Snapshot.from_pretrained(network)
    scores = tmp_path / "scores.jsonl"
    scores.write_text(
        json.dumps(record_of(snapshot, snapshot_sha256="0" * 64)) + "\n", encoding="utf-8"
    )
    with pytest.raises(UserError, match="kid_lite2: was measured on other weights"):
        snapshot.push_to_hub("alice/icons", license="mit", scores=scores, token="hf_test")
    with pytest.raises(UserError, match="holds no record"):
        snapshot.push_to_hub("alice/icons", license="mit", scores=tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="expected the form user/name"):
        snapshot.push_to_hub("icons", license="mit")
    assert not hub.repositories and not hub.requests


def test_revisions(hub, network):
    snapshot = Snapshot.from_pretrained(network)
    snapshot.push_to_hub("alice/icons", license="mit", token="hf_test")
    first = hub.repositories["alice/icons"]["main"][0]
    with torch.no_grad():
        next(snapshot.generator.parameters()).add_(1)
    snapshot.push_to_hub("alice/icons", license="mit", revision="later", token="hf_test")
    assert same_weights(Snapshot.from_pretrained("alice/icons", revision="later"), snapshot)
    assert not same_weights(Snapshot.from_pretrained("alice/icons"), snapshot)
    assert not same_weights(Snapshot.from_pretrained("alice/icons", revision=first), snapshot)
    with pytest.raises(UserError, match="has no revision 'never'; give a branch, a tag or a"):
        Snapshot.from_pretrained("alice/icons", revision="never")
    with pytest.raises(UserError, match="is a local path and not a name on the Hugging Face Hub"):
        Snapshot.from_pretrained(network, revision="later")


def test_a_folder_here_comes_first(hub, network, tmp_path):
    hub.commit("alice/icons", {"config.json": b"{}"})
    Snapshot.from_pretrained(network).save_pretrained(tmp_path / "alice" / "icons")
    assert same_weights(Snapshot.from_pretrained("alice/icons"), Snapshot.from_pretrained(network))
    for typed in ("alice/icon", "a/b/c", "/alice/icons", "./alice", "alice", Path("bob/icons")):
        with pytest.raises(UserError, match="does not exist|neither config.json"):
            Snapshot.from_pretrained(typed)
    assert not hub.requests


def test_what_is_not_there_is_one_clear_line(hub, network):
    with pytest.raises(UserError, match="bob/icons is neither a folder here nor a model on the"):
        Snapshot.from_pretrained("bob/icons")
    hub.commit("alice/other", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    with pytest.raises(UserError, match="alice/other on the Hugging Face Hub holds no model.safe"):
        Snapshot.from_pretrained("alice/other")
    assert not [path for _, path in hub.requests if path.endswith("pytorch_model.bin")]


def test_offline_takes_the_cache_and_says_so(hub, network, monkeypatch, capsys):
    from huggingface_hub import constants

    Snapshot.from_pretrained(network).push_to_hub("alice/icons", license="mit", token="hf_test")
    Snapshot.from_pretrained("alice/icons")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same_weights(Snapshot.from_pretrained("alice/icons"), Snapshot.from_pretrained(network))
    assert "the copy of alice/icons in the cache is used" in capsys.readouterr().err
    with pytest.raises(
        UserError,
        match="bob/icons is no folder here, and the Hugging Face Hub "
        r"cannot be reached .*\(HF_HUB_OFFLINE is set\)",
    ):
        Snapshot.from_pretrained("bob/icons")
    assert not hub.requests


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        Snapshot.from_pretrained("alice/icons")


def test_commands_take_a_name_of_the_hub(hub, network, tmp_path):
    Snapshot.from_pretrained(network).push_to_hub("alice/icons", license="mit", token="hf_test")
    done = CliRunner().invoke(
        generate.main,
        [
            "--network",
            "alice/icons",
            "--prompts",
            "a red apple",
            "--size",
            "24x16",
            "--outdir",
            str(tmp_path / "out"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0-a-red-apple-seed0000.png"]
    done = CliRunner().invoke(generate.main, ["--network", "alice/incons", "--prompts", "x"])
    assert done.exit_code == 1 and done.output.count("\n") == 1
    assert "Error: alice/incons is neither a folder here nor a model" in done.output


def test_scores_and_transfer_take_it_too(hub, network):
    from metrics.runner import load_subject

    snapshot = Snapshot.from_pretrained(network)
    snapshot.push_to_hub("alice/icons", license="mit", token="hf_test")
    assert load_subject("alice/icons", torch.device("cpu")).sha256 == snapshot.sha256
    trainer = SimpleNamespace(
        generator=preset("eidgan-tiny").build(),
        ema=SimpleNamespace(model=preset("eidgan-tiny").build()),
        encoder=None,
    )
    first, second = start_from("alice/icons", trainer)
    assert ", 0 new" in first and second.startswith("D starts fresh: alice/icons holds no")
    assert "until the Hub can be reached" in second
    assert same_weights(trainer, snapshot)


def test_a_discriminator_is_downloaded_only_where_it_is_asked_for(hub, network):
    tensors = {"weight": torch.arange(3.0)}
    snapshot = Snapshot.from_pretrained(network)
    snapshot.push_to_hub("alice/icons", license="mit", token="hf_test", discriminator=tensors)
    files = hub.repositories["alice/icons"]["main"][1]
    assert set(files) == {*hub_snapshots.FILES, hub_snapshots.DISCRIMINATOR}
    folder = hub_snapshots.download("alice/icons")
    assert not (folder / hub_snapshots.DISCRIMINATOR).exists()
    found = find_discriminator("alice/icons")
    assert found.file == hub_snapshots.DISCRIMINATOR
    assert found.tensors.keys() == tensors.keys()
    assert torch.equal(found.tensors["weight"], tensors["weight"])
