"""demo.py: the shipped network draws first, then a network is trained, drawn and scored."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

import demo
import generate
from configs import recipe

SCORES: dict[str, dict[str, object]] = {
    "kid_lite2": {"value": 0.25},
    "clip_s_small_heldout": {"value": 0.5, "shuffled": 0.125},
    "clip_s_small": {"value": 0.5},
    "clip_r_small": {"value": 0.5, "real": 0.75, "chance": 0.01},
    "scale_x2": {"psnr": {"centers": 30.0, "endpoints": 29.0}},
    "tile_exact": {"value": 1e-6},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_shipped_network_draws_a_grid_and_a_wide_picture(here, monkeypatch, capsys):
    def small(script, *words):
        assert script == "generate.py"
        sizes = {"128x128": "24x24", "1000x400": "50x20"}
        done = CliRunner().invoke(generate.main, [sizes.get(word, word) for word in words])
        assert done.exit_code == 0, done.output

    monkeypatch.setattr(demo, "run", small)
    demo.show_shipped()
    grid, wide = (here / demo.SHIPPED_PICTURES / name for name in ("grid", "wide"))
    with Image.open(grid / "grid.png") as image:
        assert image.width >= 4 * 24 and len(image.convert("L").getcolors(65536) or []) > 10
    assert len([*grid.glob("*-seed*.png")]) == 4 * len(demo.FLOWERS)
    [path] = wide.glob("*.png")
    with Image.open(path) as image:
        assert image.size == (50, 20)
    said = capsys.readouterr().out
    assert f"{demo.SHIPPED_PICTURES}/grid/grid.png" in said
    assert f"{demo.SHIPPED_PICTURES}/wide/*.png" in said


@pytest.fixture
def commands(here, monkeypatch):
    """The commands that the demo gives, which do nothing here but return scores."""
    given: list[tuple[str, ...]] = []

    def run(*words):
        given.append(words)
        names = words[words.index("--metrics") + 1].split(",") if "--metrics" in words else []
        return "".join(json.dumps({"metric": name} | SCORES[name]) + "\n" for name in names)

    def stream(*words, hint=""):
        given.append(words)
        if words[0] == "train.py":
            demo.RUN.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(demo, "stream", stream)
    return given


def test_the_shipped_network_comes_before_the_training(commands):
    done = CliRunner().invoke(demo.main)
    assert done.exit_code == 0, done.output
    scripts = [words[0] for words in commands]
    drawn, made, trained = ["generate.py"] * 2, ["dataset_tool.py"], ["train.py"]
    assert scripts == [*drawn, *made, *trained, *["generate.py"] * 3, *["calc_metrics.py"] * 2]
    networks = [words[words.index("--network") + 1] for words in commands if "--network" in words]
    assert networks[:2] == [demo.SHIPPED] * 2 and set(networks[2:5]) == {str(demo.RUN)}


def test_a_demo_in_one_go_leaves_a_record(commands):
    done = CliRunner().invoke(demo.main)
    assert done.exit_code == 0, done.output
    record = json.loads((demo.RUN / "record.json").read_text())
    values = record["values"]
    assert values["kid_lite2"] == 0.25 and values["clip_s_small_heldout_shuffled"] == 0.125
    assert 0 <= values["training_minutes"] <= values["minutes"]
    # A demo that goes on has no time of the whole, so it leaves the record as it is.
    (demo.RUN / "record.json").unlink()
    assert CliRunner().invoke(demo.main).exit_code == 0
    assert not (demo.RUN / "record.json").exists()


@pytest.mark.parametrize(("fast", "kimg"), [(True, recipe(demo.RECIPE).kimg), (False, 24.0)])
def test_the_training_is_shorter_on_a_slow_machine(commands, monkeypatch, fast, kimg):
    monkeypatch.setattr("torch_utils.precision.has_fast_bf16", lambda device: fast)
    assert CliRunner().invoke(demo.main).exit_code == 0
    [train] = [words for words in commands if words[0] == "train.py"]
    assert float(train[train.index("--kimg") + 1]) == kimg
    assert json.loads((demo.RUN / "record.json").read_text())["values"]["kimg"] == kimg
