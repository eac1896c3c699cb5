"""train.py refuses to resume a run with other settings or data; following its advice helps."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands.forked import run_command

STATE = "training-state-000000.pt"


def train(outdir, data, *more):
    done = run_command(
        "train.py",
        "--outdir",
        outdir,
        "--recipe",
        "debug",
        "--data",
        data,
        *"--report-to none --metrics none".split(),
        *more,
    )
    assert "Traceback" not in done.stderr
    return done


def error(done):
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith("Error: "), done.stderr
    return lines[0]


def advised(line):
    """The flags that a refusal advises: those between 'add' and the next comma."""
    found = re.search("to resume it, add (.*), else give another --outdir", line)
    assert found is not None, line
    return shlex.split(found[1])


@pytest.fixture(scope="module")
def run(openmoji32, tmp_path_factory):
    """A debug run of 16 images."""
    outdir = tmp_path_factory.mktemp("runs") / "run"
    assert train(outdir, openmoji32, "--kimg", "0.016").returncode == 0
    return outdir


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.mark.slow
def test_other_pictures_under_the_same_names_are_refused(tmp_path):
    def make(seed):
        photos, rng = tmp_path / "photos", np.random.default_rng(seed)
        photos.mkdir(exist_ok=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(photos / f"{number}.png")
            (photos / f"{number}.txt").write_text(f"picture {number}")
        done = run_command(
            "dataset_tool.py",
            "folder",
            "--source",
            photos,
            "--dest",
            tmp_path / "set",
            "--resolution",
            32,
            "--test-share",
            0,
        )
        assert done.returncode == 0, done.stderr

    flags = (tmp_path / "run", tmp_path / "set", "--kimg")
    make(0)
    assert train(*flags, "0.008").returncode == 0
    make(1)
    before = (tmp_path / "run" / STATE).read_bytes()
    assert "not the pictures that this run was started with" in error(train(*flags, "0.016"))
    assert (tmp_path / "run" / STATE).read_bytes() == before
    make(0)
    assert "Resumed from training-state-000000.pt at 8 images" in train(*flags, "0.016").stdout


@pytest.mark.slow
def test_a_state_alone_knows_its_options(run, openmoji32, tmp_path):
    (tmp_path / "new").mkdir()
    shutil.copy(run / STATE, tmp_path / "new")
    other = ("--kimg", "0.024", "--gamma", "50", "--seed", "9", "--batch", "16")
    line = error(train(tmp_path / "new", openmoji32, *other))
    for words in ("another loss.r1_gamma (1.0, now 50.0)", "batch (8, now 16)", "seed (0, now 9)"):
        assert words in line
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [".lock", "log.txt", STATE]
    done = train(tmp_path / "new", openmoji32, *other, *advised(line))
    assert done.returncode == 0 and f"Resumed from {STATE} at 16 images" in done.stdout
    assert "Changed since the last start: kimg (0.016, now 0.024)." in done.stdout
    options = json.loads((tmp_path / "new" / "training_options.json").read_text())
    assert options["seed"] == 0 and options["loss"]["r1_gamma"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, told",
    [
        (
            ["--set", "discriminator.kind=stylegan2"],
            "another discriminator ('wavelet', now 'stylegan2')",
        ),
        (["--set", "text.quantizer={}"], "another text.quantizer (None, now {"),
    ],
)
def test_the_advised_flags_undo_any_change(copy, openmoji32, flags, told):
    line = error(train(copy, openmoji32, "--kimg", "0.016", *flags))
    assert told in line
    done = train(copy, openmoji32, "--kimg", "0.016", *flags, *advised(line))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_another_recipe_is_told_by_its_name(copy, openmoji32):
    line = error(train(copy, openmoji32, "--recipe", "eidgan-openmoji32", "--kimg", "0.016"))
    assert "another recipe ('debug', now 'eidgan-openmoji32')" in line
    assert advised(line) == ["--recipe", "debug"]


def without_options(state):
    content = torch.load(state, weights_only=True)
    assert content.pop("options")["recipe"] == "debug"
    torch.save(content, state)


@pytest.mark.slow
def test_a_field_that_an_older_run_lacks_has_its_default(copy, openmoji32):
    without_options(copy / STATE)
    path = copy / "training_options.json"
    options = json.loads(path.read_text())
    del options["loss"]["path_length_decay"], options["lr_decay"]
    path.write_text(json.dumps(options))
    done = train(copy, openmoji32, "--kimg", "0.016")
    assert done.returncode == 0, done.stderr

    del options["loss"]["style_mixing"]  # the default is 0, the recipe has 0.5
    path.write_text(json.dumps(options))
    line = error(train(copy, openmoji32, "--kimg", "0.016"))
    assert "another loss.style_mixing (0.0, now 0.5)" in line
    assert train(copy, openmoji32, "--kimg", "0.016", *advised(line)).returncode == 0


@pytest.mark.slow
def test_a_run_of_a_later_version_is_named_as_such(copy, openmoji32):
    without_options(copy / STATE)
    path = copy / "training_options.json"
    options = json.loads(path.read_text())
    options["loss"]["new_term"] = 1.0
    path.write_text(json.dumps(options))
    line = error(train(copy, openmoji32, "--kimg", "0.016"))
    assert "a run of another version of this code (options.loss.new_term: no such field" in line


@pytest.mark.slow
def test_an_older_state_alone_is_nobodys(copy, openmoji32):
    without_options(copy / STATE)
    (copy / "training_options.json").unlink()
    line = error(train(copy, openmoji32, "--kimg", "0.016"))
    assert "but no training_options.json of ours" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "kimg, words",
    [
        ("0.016", "with --kimg 0.016 it is finished"),
        ("0.008", "with --kimg 0.008 it is already further"),
    ],
)
def test_a_run_that_has_nothing_to_do_says_so(copy, openmoji32, kimg, words):
    before = (copy / "stats.jsonl").read_bytes()
    done = train(copy, openmoji32, "--kimg", kimg)
    assert done.returncode == 0 and (copy / "stats.jsonl").read_bytes() == before
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Nothing to train")]
    assert words in line and "the run has shown 16 images" in line
    assert line.endswith("give a --kimg above 0.016 to continue it.")
    if kimg == "0.008":
        done = train(copy, openmoji32, "--kimg", "0.024")
        assert "Nothing to train" not in done.stdout
        assert (copy / "stats.jsonl").read_bytes() != before
