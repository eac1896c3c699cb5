"""The remedies in messages: following them helps, and all flags that they name exist."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import calc_metrics
import dataset_tool
import demo
import doctor
import explore
import export
import fit_lines
import generate
import project
import reconstruct_phema
import train
from networks import describe
from tests.commands.forked import run_command
from training import dual_encoder

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "train": train.main,
    "generate": generate.main,
    "calc_metrics": calc_metrics.main,
    "dataset_tool": dataset_tool.main,
    "doctor": doctor.main,
    "reconstruct_phema": reconstruct_phema.main,
    "export": export.main,
    "project": project.main,
    "fit_lines": fit_lines.main,
    "explore": explore.main,
    "demo": demo.main,
}
OTHERS = {"--force-reinstall"}  # of pip
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


def run(script, *arguments):
    """Run a command in this process; train.py in a forked one, because it needs a real stderr."""
    words = [str(argument) for argument in arguments]
    if script == "train":
        done = run_command("train.py", *words)
        return done.returncode, done.stdout, done.stderr
    result = CliRunner().invoke(COMMANDS[script], words)
    return result.exit_code, result.stdout, result.stderr


def refused(script, *arguments):
    code, _, errors = run(script, *arguments)
    (line,) = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert code == 1 and "Traceback" not in errors
    return line


def succeed(script, *arguments):
    code, output, errors = run(script, *arguments)
    assert code == 0, errors
    return output + errors


def found(pattern, line):
    match = re.search(pattern, line)
    assert match is not None, line
    return match[1]


@pytest.fixture(scope="module")
def trained(openmoji32, tmp_path_factory):
    """A debug run of eight images. Tests change copies of it."""
    outdir = tmp_path_factory.mktemp("advice") / "run"
    succeed("train", *training(outdir, openmoji32))
    return outdir


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def training(outdir, data, *more):
    return (
        "--outdir",
        outdir,
        "--recipe",
        "debug",
        "--data",
        data,
        *"--report-to none --metrics none --kimg 0.008 --device cpu".split(),
        *more,
    )


def pictures(folder, count=4, size=32, captions=True):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        if captions:
            (folder / f"{number}.txt").write_text(f"picture {number}")
    return folder


@pytest.mark.slow
@NO_GPU
@pytest.mark.parametrize("flag, value", [("--device", "cuda"), ("--ops", "cuda")])
def test_a_missing_gpu(trained, tmp_path, flag, value):
    ask = ("--network", trained, "--prompts", "a cat", "--outdir", tmp_path / "drawn")
    line = refused("generate", *ask, flag, value)
    advice = re.findall(rf"{flag} (?!cuda)([a-z]+)", line)
    assert advice == {"--device": ["cpu"], "--ops": ["auto", "ref"]}[flag], line
    for other in advice:
        succeed("generate", *ask, flag, other)


@pytest.mark.slow
def test_a_batch_of_one_picture(openmoji32, tmp_path):
    base = training(tmp_path / "run", openmoji32, "--batch-gpu", 1)
    line = refused("train", *base)
    succeed("train", *base, *shlex.split(found(r"\(or (--set [^)]*)\)", line)))


@pytest.mark.slow
def test_pictures_of_another_size(trained, tmp_path):
    source = pictures(tmp_path / "photos")
    make = ("folder", "--source", source, "--dest", tmp_path / "set.zip", "--test-share", 0)
    succeed("dataset_tool", *make, "--resolution", "16x16")
    line = refused("train", *training(tmp_path / "run", tmp_path / "set.zip"))
    size = found(r"make the data set again with --resolution (\S+)", line)
    succeed("dataset_tool", *make, "--resolution", size)
    succeed("train", *training(tmp_path / "run", tmp_path / "set.zip"))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["all damaged", "all gone"])
def test_a_run_whose_states_are_lost(copy, openmoji32, tmp_path, damage):
    for state in copy.glob("training-state-*.pt"):
        state.write_bytes(b"x") if damage == "all damaged" else state.unlink()
    line = refused("train", *training(copy, openmoji32))
    if damage == "all damaged":
        source = found(r"start another --outdir with --init-from (\S+)$", line)
    else:
        assert "give another --outdir (with --init-from to take the weights of this run)" in line
        source = copy
    output = succeed("train", *training(tmp_path / "new", openmoji32, "--init-from", source))
    assert f"Started from {source}: " in output and "tensors of G taken, 0 new" in output


@pytest.mark.slow
def test_other_data_may_be_trained_on_elsewhere(copy, openmoji32, tmp_path):
    source = pictures(tmp_path / "photos")
    succeed(
        "dataset_tool",
        "folder",
        "--source",
        source,
        "--dest",
        tmp_path / "set",
        "--resolution",
        32,
        "--test-share",
        0,
    )
    line = refused("train", *training(copy, tmp_path / "set"))
    assert "restore that data set, or give another --outdir with --init-from" in line
    succeed("train", *training(tmp_path / "new", tmp_path / "set", "--init-from", copy))


@pytest.mark.slow
def test_the_card_of_a_snapshot_tells_how_to_draw(trained, tmp_path):
    (snapshot,) = trained.glob("network-snapshot-*")
    command = found(r"```\npython (.*)\n```", (snapshot / "README.md").read_text())
    script, *words = shlex.split(command.replace("THIS_FOLDER", str(snapshot)))
    succeed(script.removesuffix(".py"), *words, "--outdir", tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 4


@pytest.mark.slow
def test_a_prompt_is_missing(trained, tmp_path):
    base = ("--network", trained, "--outdir", tmp_path / "drawn")
    line = refused("generate", *base)
    succeed("generate", *base, *shlex.split(found(r'give (--prompts "[^"]*")', line)))


@pytest.mark.slow
def test_scored_folders(tmp_path):
    made = pictures(tmp_path / "made", captions=False)
    base = ("calc", "--images", made, "--ref", made, "--device", "cpu", "--metrics")
    line = refused("calc_metrics", *base, "clip_s_small")
    number = shlex.split(found(r"pass (--num-images \d+)", line))
    line = refused("calc_metrics", *base, "clip_s_small", *number)
    assert "put a NAME.txt beside each, or a captions.jsonl into the folder" in line
    (made / "captions.jsonl").write_text(
        "".join(
            json.dumps({"file": f"{index}.png", "captions": ["a cat"]}) + "\n" for index in range(4)
        )
    )
    succeed("calc_metrics", *base, "clip_s_small", *number)
    assert "give --network" in refused("calc_metrics", *base, "tile_exact", *number)
    line = refused("calc_metrics", *base, "kid_lite")
    succeed("calc_metrics", *base, found(r"did you mean '(\w+)'", line), *number)


@pytest.mark.slow
def test_references(tmp_path):
    made, real = pictures(tmp_path / "made"), pictures(tmp_path / "real", size=16)
    base = ("calc", "--images", made, "--metrics", "kid_lite2", "--num-images", 4, "--ref")
    (tmp_path / "ref.npz").write_text("no statistics")
    line = refused("calc_metrics", *base, tmp_path / "ref.npz")
    assert "make them with calc_metrics.py ref, or give a folder of pictures" in line
    line = refused("calc_metrics", *base, real)
    size = found(r"build the data set with --resolution (\S+)", line)
    succeed(
        "dataset_tool",
        "folder",
        "--source",
        real,
        "--dest",
        tmp_path / "real.zip",
        "--resolution",
        size,
        "--test-share",
        0.5,
    )
    (tmp_path / "ref.npz").unlink()
    succeed(
        "calc_metrics",
        "ref",
        "--data",
        tmp_path / "real.zip",
        "--metrics",
        "kid_lite2",
        "--dest",
        tmp_path / "ref.npz",
    )
    succeed("calc_metrics", *base, tmp_path / "ref.npz")


@pytest.mark.slow
def test_data_sets(tmp_path, trained):
    source = pictures(tmp_path / "photos")
    make = ("folder", "--source", source, "--dest", tmp_path / "set", "--resolution", 32)
    (source / "4.png").write_bytes(b"no picture")
    (source / "4.txt").write_text("a caption")
    line = refused("dataset_tool", *make, "--test-share", 0, "--strict")
    assert "leave out --strict to count such files and go on" in line
    succeed("dataset_tool", *make, "--test-share", 0)
    score = (
        "calc",
        "--network",
        trained,
        "--data",
        tmp_path / "set",
        "--metrics",
        "kid_lite2",
        "--num-images",
        4,
        "--cache",
        tmp_path / "cache",
        "--device",
        "cpu",
    )
    line = refused("calc_metrics", *score)
    flag = found(r"dataset_tool.py folder (--test-share) \S+ makes a test split", line)
    succeed("dataset_tool", *make, flag, 0.5)
    succeed("calc_metrics", *score)
    index = json.loads((tmp_path / "set" / "dataset.json").read_text())
    index["items"][1]["split"] = "none"
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(index))
    line = refused("calc_metrics", *score)
    script, *words = shlex.split(found(r"(dataset_tool\.py verify \S+ \S+) lists all faults", line))
    code, output, _ = run(script.removesuffix(".py"), *words)
    assert code == 1 and "items[1]" in output


@pytest.mark.slow
def test_a_zip_of_pictures(tmp_path):
    source, packed = pictures(tmp_path / "photos"), tmp_path / "photos.zip"
    with zipfile.ZipFile(packed, "w") as file:
        for path in source.iterdir():
            file.write(path, path.name)
    line = refused("train", *training(tmp_path / "run", packed))
    flags = shlex.split(found(r"train without text \((--cond false)\)", line))
    succeed("train", *training(tmp_path / "run", packed, *flags))
    assert "import captions with them (dataset_tool.py folder)" in line
    make = ("--dest", tmp_path / "set.zip", "--resolution", 32, "--test-share", 0)
    line = refused("dataset_tool", "folder", "--source", packed, *make)
    assert line.endswith("is a file, not a folder; unpack it first")
    zipfile.ZipFile(packed).extractall(tmp_path / "unpacked")
    succeed("dataset_tool", "folder", "--source", tmp_path / "unpacked", *make)


def options_of(command):
    names = {
        name for parameter in command.params for name in parameter.opts + parameter.secondary_opts
    }
    return {name for name in names if name.startswith("--")} | {"--help"}


def every_option():
    found, groups = set(OTHERS), [*COMMANDS.values(), dual_encoder.main, describe.main]
    for script in sorted((ROOT / "benchmarks").glob("*.py")):
        found |= set(re.findall(r"\"(--[a-z][a-z-]*)", script.read_text()))
    for command in groups:
        for one in (command, *getattr(command, "commands", {}).values()):
            found |= options_of(one)
    return found


def texts(tree):
    """All texts of a module but its docstrings, with '{}' for inserted values."""
    inside, docstrings = set(), set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            docstrings.add(id(body[0].value))
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if id(node) in inside | docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def wrong_advice(text, known):
    """The flags and subcommands in a text that do not exist."""
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text):
        if flag not in known:
            yield f"no command has {flag}"
    for name, rest in re.findall(r"\b(\w+)\.py((?: [^ ,;()]+)*)", text):
        if name not in COMMANDS:
            continue
        main = command = COMMANDS[name]
        for word in rest.split():
            if word in (nested := getattr(main, "commands", {})):
                command = nested[word]
            elif re.fullmatch("--[a-z-]+", word) and word not in options_of(command):
                yield f"{name}.py {'' if command is main else command.name} has no {word}"


def test_every_command_and_flag_that_a_text_names_exists():
    known, wrong = every_option(), []
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    # These modules name flags of nvcc, compute-sanitizer and pytest.
    elsewhere = ("benchmarks/gpu_check/", "torch_utils/ops/build.py", "torch_utils/ops/toolkit.py")
    sources = [name for name in listed if not name.startswith(("tests/", *elsewhere))]
    assert len(sources) > 100
    for name in sources:
        for text in texts(ast.parse((ROOT / name).read_text())):
            if " " in text:
                wrong += [f"{name}: {text!r}: {fault}" for fault in wrong_advice(text, known)]
    assert wrong == []


@pytest.mark.parametrize(
    "text, fault",
    [
        ("give --datas", "no command has --datas"),
        ("rebuild with dataset_tool.py --resolution 8x8", "dataset_tool.py  has no --resolution"),
        ("dataset_tool.py folder --root X", "dataset_tool.py folder has no --root"),
        ("train.py --source X", "has no --source"),
    ],
)
def test_wrong_advice_is_found(text, fault):
    assert any(fault in one for one in wrong_advice(text, every_option()))
    right = "dataset_tool.py coco or folder --test-share 0.1; train.py --data X"
    assert not list(wrong_advice(right, every_option()))
