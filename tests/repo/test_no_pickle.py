"""No file of a stranger is unpickled: no line of the sources does it, and no reader."""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from tests.repo.test_house_rules import COMMANDS, LAYERS, ROOT, name_of

SOURCES = [path for folder in LAYERS for path in sorted((ROOT / folder).rglob("*.py"))]
SOURCES += [ROOT / f"{command}.py" for command in COMMANDS]
READERS = "datasets/pickled_lists.py"  # an unpickler that finds no class and no function
UNSAFE_MODULES = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


def dotted(node):
    """'np.load' of the syntax tree of np.load; '' for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def unsafe(text):
    """Lines of a module that may run code of a file."""
    found = []
    for node in ast.walk(ast.parse(text)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            found += [line for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in {*UNSAFE_MODULES, "pickle"}:
                found.append(line)
        elif isinstance(node, ast.Attribute):
            # An exception class may be named; nothing else of pickle.
            if dotted(node.value) == "pickle" and node.attr != "UnpicklingError":
                found.append(line)
        elif isinstance(node, ast.Call):
            name, given = dotted(node.func), {word.arg for word in node.keywords}
            needs = {
                "torch.load": "weights_only",
                "np.load": "allow_pickle",
                "numpy.load": "allow_pickle",
                "np.lib.format.read_array": "allow_pickle",
            }
            if name in UNSAFE_CALLS or name in needs and needs[name] not in given:
                found.append(line)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_line_unpickles_or_executes_a_file(path):
    if name_of(path) != READERS:
        assert unsafe(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle; pickle.load(f)", "from pickle import loads", "import dill",
        "torch.load(path)", "np.load(path)", "eval(text)", "pickle.Unpickler(f)",
    ],
)  # fmt: skip
def test_the_check_sees_lines_that_do(line):
    assert unsafe(line) == [1]


def test_one_module_opens_safetensors_files():
    """`dnnlib.weight_files` checks the header first."""
    readers = {
        name_of(path)
        for path in SOURCES
        if re.search(r"\b(safe_open|load_file)\b", path.read_text(encoding="utf-8"))
    }
    assert readers == {"dnnlib/weight_files.py"}


@pytest.fixture
def unpickled(monkeypatch):
    """What was given to pickle while the test ran: nothing may be."""
    seen = []

    def refuse(*args, **kwargs):
        seen.append(args)
        raise AssertionError("something is unpickled")

    for name in ("Unpickler", "_Unpickler", "load", "loads", "_load", "_loads"):
        monkeypatch.setattr(pickle, name, refuse)
    return seen


class Evil:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class State:
    def __init__(self):
        self.value = {"step": 3, "weights": torch.ones(4)}

    def state_dict(self):
        return self.value

    def load_state_dict(self, state):
        self.value = state


def test_nothing_is_unpickled_while_files_are_read(tmp_path, network, unpickled):
    from datasets.archive import Picture, write_archive
    from datasets.folder import folder_pictures
    from datasets.report import Report
    from datasets.text_image import TextImageDataset
    from metrics.features.extraction import Features
    from metrics.features.reference_file import Entry, ReferenceFile, write_reference
    from metrics.features.references import _path, _read, arrays_of
    from networks.codes_file import load_codes, save_codes
    from networks.interfaces import Codes
    from networks.snapshot import Snapshot
    from networks.warps import read_field
    from training.checkpoint import CheckpointIO, options_in, read_newest

    snapshot = Snapshot.from_pretrained(network)
    shape = snapshot.generator.tokens_mean.shape
    save_codes(tmp_path / "c", Codes(torch.ones(1, *shape), torch.ones(1, 4)), snapshot, {})
    assert load_codes(tmp_path / "c", snapshot)[1]
    CheckpointIO(tmp_path, {"g": State()}, {"recipe": "x", "generator": {}}).save(1000)
    newest, options = read_newest(tmp_path), options_in(tmp_path)
    assert newest and newest[1]["g"]["step"] == 3 and options and options["recipe"] == "x"
    picture = Picture(np.zeros((8, 8, 3), np.uint8), "a", ("red",), "train")
    write_archive(tmp_path / "d.zip", [picture], (8, 8), {})
    assert TextImageDataset(tmp_path / "d.zip")[0].captions == ("red",)
    features = Features(3, np.ones((3, 2), np.float32), None)
    np.savez(_path(tmp_path, "key"), key=np.array("key"), **arrays_of(features))
    assert _read(tmp_path, "key", 3).count == 3
    write_reference(tmp_path / "r.npz", [Entry("d", "t", features)], {"resolution": [8, 8]})
    assert ReferenceFile(tmp_path / "r.npz").resolution == (8, 8)
    np.save(tmp_path / "w.npy", np.zeros((2, 2, 2), np.float32))
    assert read_field(tmp_path / "w.npy").values.shape == (2, 2, 2)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    (tmp_path / "in" / "captions.jsonl").write_text('{"file": "a.png", "captions": ["red"]}\n')
    assert folder_pictures(tmp_path / "in", Report())[0].captions == ("red",)
    assert unpickled == []
    np.save(tmp_path / "o.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(AssertionError, match="something is unpickled"):
        np.load(tmp_path / "o.npy", allow_pickle=True)  # so that the hook is seen to work


def test_files_that_hold_code_are_refused_and_run_nothing(tmp_path, capsys):
    from datasets.pickled_lists import read_string_list
    from metrics.features.reference_file import ReferenceFile
    from metrics.features.references import _path, _read
    from networks.text_encoders.open_clip_weights import check_checkpoint
    from networks.warps import read_field
    from training.checkpoint import options_in, read_newest

    mark = tmp_path / "was-here"
    evil = Evil(mark)
    torch.save({"format": 1, "options": evil}, tmp_path / "training-state-000001.pt")
    array = np.array([evil], dtype=object)
    np.save(tmp_path / "w.npy", array, allow_pickle=True)
    np.savez(tmp_path / "r.npz", index=array, mu=array, sigma=array)
    np.savez(_path(tmp_path, "key"), key=array)
    (tmp_path / "names.pickle").write_bytes(pickle.dumps(evil))
    for read, reason in (
        (lambda: read_newest(tmp_path), "no training-state-"),
        (lambda: read_field(tmp_path / "w.npy"), "not a readable .npy file of numbers"),
        (lambda: ReferenceFile(tmp_path / "r.npz"), "is no reference statistics"),
        (lambda: read_string_list(tmp_path / "names.pickle"), "it asks for .*open"),
        (lambda: check_checkpoint(tmp_path / "training-state-000001.pt"), "plain tensors"),
    ):
        with pytest.raises(UserError, match=reason):
            read()
    assert options_in(tmp_path) is None and _read(tmp_path, "key", 1) is None
    assert not mark.exists()
    pickle.load(io.BytesIO(pickle.dumps(evil)))  # so that the test could have failed
    assert mark.exists()


@pytest.mark.parametrize("entries", ["x", [3], [{"detector": 1}], [{"detector": "d", "tag": "t"}]])
def test_an_index_of_statistics_with_other_types_is_refused(tmp_path, entries):
    from metrics.features.reference_file import ReferenceFile

    np.savez(tmp_path / "r.npz", index=np.array(json.dumps({"format": 1, "entries": entries})))
    with pytest.raises(UserError, match="is no reference statistics"):
        ReferenceFile(tmp_path / "r.npz")


def test_statistics_that_are_a_bomb_are_refused(tmp_path):
    from metrics.features.reference_file import ReferenceFile

    np.savez_compressed(tmp_path / "r.npz", mu=np.zeros(1 << 22), sigma=np.zeros(1))
    with pytest.raises(UserError, match="would unpack to more than 200 times its size"):
        ReferenceFile(tmp_path / "r.npz")


def test_downloads_go_over_https():
    from networks.pretrained import inception
    from networks.pretrained.download import fetch

    assert inception.URL.startswith("https://") and len(inception.SHA256) >= 8
    with pytest.raises(AssertionError):
        fetch("http://example.org/x.pth", Path("/nonexistent/x.pth"), "0" * 64)
