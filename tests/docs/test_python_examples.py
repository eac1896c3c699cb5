"""The lines of Python in README.md and in pages of the documentation work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import export
from networks.coordinates import View
from networks.sampling import iterate_images
from networks.snapshot import Snapshot
from tests.commands.page_commands import commands

ROOT = Path(__file__).parents[2]


def example(page, words):
    """The Python of a page that holds these words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    [code] = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if words in code]
    return code


def check_picture(path):
    with Image.open(path) as image:
        assert image.size == (1000, 600) and len(image.convert("L").getcolors(256) or []) > 10


@pytest.mark.slow
def test_the_example_of_the_readme_works_in_a_fresh_clone(tmp_path, monkeypatch):
    code = example("README.md", "draw")
    assert len(code.splitlines()) <= 6
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    check_picture(tmp_path / "flower.png")


@pytest.mark.slow
def test_a_picture_of_any_size(network, tmp_path, monkeypatch):
    code = example("docs/tutorial.md", "save_image")
    assert '"runs/photos"' in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace("runs/photos", str(network)), {})
    check_picture(tmp_path / "cat.png")


def test_a_picture_that_is_written_in_tiles(network, tmp_path, monkeypatch):
    code = example("docs/any_scale.md", "draw_huge")
    for old, new in (("flowers64", str(network)), ("20000", "20"), ("30000", "30")):
        assert old in code
        code = code.replace(old, new)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    with Image.open(tmp_path / "flower.tiff") as image:
        assert image.size == (30, 20)


@pytest.mark.slow
def test_a_graph_that_onnxruntime_computes(tmp_path, monkeypatch):
    """A network that ships: the optimiser drops a small number, and the prompt is short."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="ONNX is optional: requirements-optional.txt")
    [words] = [words for words in commands("any_scale.md") if "onnx" in words]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    done = CliRunner().invoke(export.main, words[1:])
    assert done.exit_code == 0, done.output
    names: dict = {}
    code = example("docs/any_scale.md", "onnxruntime")
    assert code.count("512") == 2
    exec(code.replace("512", "64"), names)
    assert names["image"].shape == (1, 3, 64, 64)

    snapshot = Snapshot.from_pretrained("flowers64")
    shown = iterate_images(
        snapshot.generator, snapshot.load_encoder(), ["a flower"], [0], View.square(64)
    )
    [sample] = shown
    expected = sample.image.numpy()
    assert abs(names["image"][0] - expected).max() < 1e-3


def test_the_data_of_a_training(openmoji32):
    names: dict = {}
    exec(
        example("docs/datasets.md", "training_batches").replace(
            "data/openmoji64.zip", str(openmoji32)
        ),
        names,
    )
    assert names["image"].shape == (3, 32, 32) and names["batch"].images.shape[0] == 32
