"""docs/any_scale.md: every command runs at a small size, and one script draws every picture."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from docs.pictures.make_any_scale import PICTURES
from docs.pictures.make_any_scale import main as make_pictures
from networks.generators import preset
from networks.snapshot import Snapshot
from tests.commands.forked import succeed
from tests.commands.page_commands import DOCS, commands, miniature

PAGE = (DOCS / "any_scale.md").read_text(encoding="utf-8")
COMMANDS = commands("any_scale.md")
# A word of the page, and the word that the test runs in its place.
SMALL = {
    "eidgan-flowers64": "debug",
    "64": "32",  # --patch
    "1-4": "1-2",  # --scale-range
    "64x64": "32x32",
    "1000x600": "50x30",
    "768x768": "24x24",
    "512x512": "24x24",
    "384x256": "24x16",
    "32768x32768": "600x20",
    "8192x8192": "20x600",
    "64,256,512": "8,16,24",
    "100": "2",  # --num-images
    "1,2,4,8,16": "1,2",  # --thickness
}
MORE = {
    "train.py": "--kimg 0.008 --metrics none --report-to none",
    "video": "--frames 3 --size 16x16",
    "project.py": "--steps 2",
    "fit_lines.py": "--steps 2 --side 16",
    "export.py": "--prompt-length 4 --no-check",
}


@pytest.fixture(scope="module")
def network32(tmp_path_factory):
    """A network of few layers, which is traced fast, for 32 x 32, the least size of `eqr`."""
    config = replace(preset("eidgan-tiny"), channels=(16,), refinement=(8,), decoder_hidden=())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = config.build().eval()
    folder = tmp_path_factory.mktemp("run32") / "network-snapshot-000001"
    Snapshot(generator, "hashed", 32, {"recipe": "test"}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of two shapes with captions beside them, and a picture to project."""
    folder = tmp_path_factory.mktemp("any_scale")
    rng = np.random.default_rng(0)
    for i in range(16):
        path = folder / "photos" / ("test" if i % 4 == 0 else "train") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (48, 72, 3) if i % 2 else (66, 66, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        path.with_suffix(".txt").write_text(f"a cat of the colour {i}\n", encoding="utf-8")
    Image.fromarray(pixels).save(folder / "flower.png")
    (folder / "out").mkdir()
    return folder


def run(words):
    """The output of a command in this process; of train.py in a forked one."""
    if words[0] == "train.py":
        return succeed(*words).stdout
    main = importlib.import_module(words[0].removesuffix(".py")).main
    done = CliRunner().invoke(main, words[1:])
    assert done.exit_code == 0, f"{words}\n{done.output}"
    return done.stdout


def is_here(words):
    """Whether the packages of a command are installed: ONNX is optional."""
    return "onnx" not in words or importlib.util.find_spec("onnxscript") is not None


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_each_word_of_the_table_is_used():
    words = {word for command in COMMANDS for word in command}
    assert words >= SMALL.keys() | MORE.keys()


@pytest.mark.slow
@pytest.mark.multi_process
def test_the_commands_of_the_page(folder, network32, openmoji32):
    fixed = {
        "flowers64": str(network32),
        "data/flowers64.zip": str(openmoji32),
        "flower.png": str(folder / "flower.png"),
    }
    outputs = {}
    for words in filter(is_here, COMMANDS):
        command = "video" if "video" in words else words[0]
        line = [*miniature(words, folder, SMALL | fixed), *MORE.get(command, "").split()]
        outputs[" ".join(words)] = run(line)

    out = folder / "out"
    for name, size in {
        "large": (50, 30), "scales": (72, 24), "beyond": (24, 24), "zoom": (24, 24),
        "turned": (24, 24), "swirl": (24, 24), "exact": (24, 24), "huge": (600, 20),
        "wide": (24, 16), "projected": (24, 24),
    }.items():  # fmt: skip
        [path] = (out / name).iterdir()
        assert size_of(path) == size, name
    assert [path.suffix for path in sorted((out / "pyramid").iterdir())] == [".dzi", ""]
    for name, count in {"prompts": 9, "seeds": 8, "mixed": 4, "walk": 4, "blend": 1}.items():
        assert len([*(out / name).iterdir()]) == count, name
    assert {path.name for path in out.iterdir() if path.is_file()} >= {
        "zoom.mp4", "latent.webp", "flower.safetensors", "flowers.pt2",
    }  # fmt: skip
    [scores] = [text for command, text in outputs.items() if "calc_metrics" in command]
    records = {record["metric"]: record for record in map(json.loads, scores.splitlines())}
    assert len(records) == 7 and all(record["value"] > 0 for record in records.values())
    assert records["zoom_x4"]["value"] == records["eqt"]["value"] == 100


def test_one_script_draws_every_picture_of_the_page():
    shown = re.findall(r"\]\(pictures/(\S+)\)", PAGE)
    assert sorted(shown) == sorted(f"any-scale-{name}.jpg" for name in PICTURES)
    sizes = [(DOCS / "pictures" / name).stat().st_size for name in shown]
    assert sum(sizes) < 700_000


@pytest.mark.slow
def test_the_script_draws_the_pictures_at_their_sizes(network32, tmp_path):
    done = CliRunner().invoke(
        make_pictures, ["--network", str(network32), "--outdir", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"error: \d+\.\d dB\n", done.output)
    for name in PICTURES:
        file = f"any-scale-{name}.jpg"
        assert size_of(tmp_path / file) == size_of(DOCS / "pictures" / file)
