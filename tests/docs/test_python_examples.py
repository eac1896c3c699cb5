"""The lines of Python in README.md and in pages of the documentation work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def example(page, words):
    """The Python of a page that holds these words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    [code] = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if words in code]
    return code


@pytest.mark.slow
@pytest.mark.parametrize(
    "page, run, picture",
    [
        ("README.md", "runs/demo", "apple.png"),
        ("docs/tutorial.md", "runs/photos", "cat.png"),
    ],
)
def test_a_picture_of_any_size(page, run, picture, network, tmp_path, monkeypatch):
    code = example(page, "save_image")
    assert f'"{run}"' in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace(run, str(network)), {})
    with Image.open(tmp_path / picture) as image:
        assert image.size == (1000, 600) and len(image.convert("L").getcolors(256) or []) > 10


def test_a_picture_that_is_written_in_tiles(network, tmp_path, monkeypatch):
    code = example("docs/any_scale.md", "draw_huge")
    for old, new in (("runs/flowers64", str(network)), ("20000", "20"), ("30000", "30")):
        assert old in code
        code = code.replace(old, new)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    with Image.open(tmp_path / "flower.tiff") as image:
        assert image.size == (30, 20)


def test_the_data_of_a_training(openmoji32):
    names: dict = {}
    exec(
        example("docs/datasets.md", "training_batches").replace(
            "data/openmoji64.zip", str(openmoji32)
        ),
        names,
    )
    assert names["image"].shape == (3, 32, 32) and names["batch"].images.shape[0] == 32
