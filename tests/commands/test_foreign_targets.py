"""train.py, generate.py and dataset_tool.py never change files of other programs."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import dataset_tool
import generate
from datasets.archive import Archive, Picture, write_archive
from dnnlib.errors import UserError
from networks.snapshot import Snapshot
from training.checkpoint import CheckpointIO
from training.launch import enter


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def refused(result, words):
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and words in result.stderr, (
        result.output
    )


def everything(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (9, 9)).save(folder / "a.png")
    (folder / "a.txt").write_text("a picture")
    return folder


OURS, STYLEGAN = "ours", '{"labels": [["a.png", 3]]}'
# (name of the destination, whether it is a data set of ours, other files in it)
FOREIGN = {
    "a data set of StyleGAN": ("set", None, {"dataset.json": STYLEGAN, "notes.txt": "mine"}),
    "pictures": ("set", None, {"a.png": "picture"}),
    "ours with a note": ("set", OURS, {"notes.txt": "mine"}),
    "ours under version control": ("set", OURS, {".git/HEAD": "ref"}),
    "a zip of photos": ("set.zip", None, {"a.jpg": "photo"}),
    "a zip of StyleGAN": ("set.zip", None, {"dataset.json": STYLEGAN, "a.png": "picture"}),
    "our zip with a note": ("set.zip", OURS, {"notes.txt": "mine"}),
    "no zip at all": ("set.zip", None, {}),
}


def lay_out(dest, ours, others):
    if ours:
        write_archive(dest, [picture()], (4, 4), {})
    elif not others:
        dest.write_text("irreplaceable")
    if others and dest.suffix == ".zip":
        with zipfile.ZipFile(dest, "a") as file:
            for name, text in others.items():
                file.writestr(name, text)
    elif others:
        for name, text in others.items():
            (dest / name).parent.mkdir(parents=True, exist_ok=True)
            (dest / name).write_text(text)


def picture():
    return Picture(np.zeros((4, 4, 3), np.uint8), "a", ("a",), "train")


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_import_leaves_foreign_folders_and_zips_alone(tmp_path, photos, kind):
    (tmp_path / "to").mkdir()
    name, ours, others = FOREIGN[kind]
    lay_out(dest := tmp_path / "to" / name, ours, others)
    before = everything(tmp_path / "to")
    refused(
        run(dataset_tool.main, "folder", "--source", photos, "--dest", dest, "--resolution", 8),
        "is left as it is",
    )
    refused(
        run(dataset_tool.main, "openmoji", "--dest", dest, "--resolution", 8, "--max-images", 1),
        dest.name,
    )
    assert everything(tmp_path / "to") == before


def test_an_index_with_files_that_are_no_texts_is_no_proof(tmp_path, photos):
    index = {"format": 1, "resolution": [8, 8], "items": [{"file": ["x"]}, {"file": {}}, 7]}
    dest = tmp_path / "set"
    lay_out(dest, None, {"dataset.json": json.dumps(index), "x": "mine"})
    refused(
        run(dataset_tool.main, "folder", "--source", photos, "--dest", dest),
        "also holds x, which dataset.json does not list",
    )


SOURCES = {
    "folder": ["--source", "none"],
    "coco": ["--images", "none", "--captions", "train.json"],
    "cub": ["--root", "none", "--captions", "none"],
    "flowers": ["--images", "none", "--captions", "none"],
    "hf": ["--source", "none"],
    "webdataset": ["--source", "none"],
    "lsun": ["--source", "none", "--no-captions"],
}


@pytest.mark.parametrize("command", SOURCES)
def test_the_destination_and_the_size_are_checked_before_the_source(tmp_path, command):
    (tmp_path / "set.zip").write_text("irreplaceable")
    refused(
        run(dataset_tool.main, command, *SOURCES[command], "--dest", tmp_path / "set.zip"),
        "set.zip is not a data set of this program",
    )
    refused(
        run(
            dataset_tool.main,
            command,
            *SOURCES[command],
            "--dest",
            tmp_path / "new.zip",
            "--resolution",
            "0x8",
        ),
        "size '0x8': expected WIDTHxHEIGHT",
    )


def test_an_import_replaces_its_own_and_takes_empty_places(tmp_path, photos):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.zip").touch()
    for name in ("empty", "empty.zip", "new", "new.zip"):
        for _ in range(2):
            result = run(
                dataset_tool.main,
                "folder",
                "--source",
                photos,
                "--dest",
                tmp_path / name,
                "--resolution",
                8,
            )
            assert result.exit_code == 0, result.stderr
        (tmp_path / name / ".DS_Store").touch() if (tmp_path / name).is_dir() else None
        assert len(Archive(tmp_path / name).entries()) == 1
    (photos / "a.txt").unlink()
    before = everything(tmp_path)
    assert (
        run(
            dataset_tool.main,
            "folder",
            "--source",
            photos,
            "--dest",
            tmp_path / "new",
            "--resolution",
            8,
        ).exit_code
        == 1
    )
    assert everything(tmp_path) == before


def start(run_dir):
    with contextlib.ExitStack() as stack:
        enter(run_dir, stack)


@pytest.mark.parametrize(
    "name, text, words",
    [
        (
            "training_options.json",
            '{"G_kwargs": {}, "run_dir": "x"}',
            "training_options.json of another program",
        ),
        ("log.txt", "diary", "holds log.txt, but no training_options.json"),
        ("network-snapshot-000000/notes.txt", "x", "holds network-snapshot-000000, but"),
        ("training-state-000000.pt", "x", "holds training-state-000000.pt, but"),
        ("metric-fid50k_full.jsonl", "{}", "holds metric-fid50k_full.jsonl, but"),
        ("reals.png", "x", "holds reals.png, but"),
        ("averages-000000.safetensors", "x", "holds averages-000000.safetensors, but"),
    ],
)
def test_training_leaves_the_folders_of_others_alone(tmp_path, name, text, words):
    run_dir = tmp_path / "run"
    (run_dir / name).parent.mkdir(parents=True)
    (run_dir / name).write_text(text)
    with pytest.raises(UserError, match=words):
        start(run_dir)
    assert everything(run_dir) == {name: text.encode()}


def test_a_run_may_live_beside_other_files_and_after_a_failed_start(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "slurm-17.out").write_text("queued")
    for _ in range(2):
        start(tmp_path / "run")
    assert (tmp_path / "run" / "slurm-17.out").read_text() == "queued"
    (tmp_path / "run" / "training_options.json").write_text(
        '{"recipe": "x", "generator": {}, "text_encoder": "hashed"}'
    )
    start(tmp_path / "run")
    # the user removed the states to save space
    (tmp_path / "run" / "stats.jsonl").write_text('{"images": 8}\n')
    with pytest.raises(UserError, match="holds the records of a run but no training-state"):
        start(tmp_path / "run")
    assert (tmp_path / "run" / "stats.jsonl").read_text() == '{"images": 8}\n'


def test_copies_of_states_are_the_users_own(tmp_path):
    for name in ("training-state-best.pt", "training-state-000001-keep.pt"):
        (tmp_path / name).write_bytes(b"copy")
    for images in (0, 1000, 2000, 999_000, 1_000_000_000):
        CheckpointIO(tmp_path, {}).save(images)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "training-state-000001-keep.pt",
        "training-state-000999.pt",
        "training-state-1000000.pt",
        "training-state-best.pt",
    ]
    assert CheckpointIO(tmp_path, {}).load_latest().name == "training-state-1000000.pt"


def test_a_snapshot_takes_no_other_folders_place(network, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["Bert"]}')
    with pytest.raises(UserError, match="holds config.json and no config.json of a snapshot"):
        Snapshot.from_pretrained(network).save_pretrained(model)
    snapshot = Snapshot.from_pretrained(network)
    for _ in range(2):
        snapshot.save_pretrained(tmp_path / "new")
    (tmp_path / "new" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="also holds notes.txt"):
        snapshot.save_pretrained(tmp_path / "new")


def draw(network, outdir, *more):
    return run(
        generate.main,
        "--network",
        network,
        "--outdir",
        outdir,
        *"--device cpu --size 8x8".split(),
        *more,
    )


def test_drawing_leaves_other_pictures_alone_and_names_older_ones(network, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    Image.new("RGB", (4, 4)).save(out / "grid.png")
    before = everything(out)
    refused(
        draw(network, out, "--prompts", "a cat", "--grid"),
        "out/grid.png is no picture that this program made",
    )
    assert everything(out) == before
    first = draw(network, out, "--prompts", "a cat", "--seeds", "0-1")
    assert first.exit_code == 0 and "earlier" not in first.stderr
    second = draw(network, out, "--prompts", "a dog")
    assert second.exit_code == 0 and "replaces" not in second.stderr
    named = "keeps 2 pictures of an earlier call: 0-a-cat-seed0000.png, 1-a-cat-seed0001.png"
    assert named in second.stderr
    assert sorted(os.listdir(out)) == [
        "0-a-cat-seed0000.png",
        "0-a-dog-seed0000.png",
        "1-a-cat-seed0001.png",
        "grid.png",
    ]
    assert (out / "grid.png").read_bytes() == before["grid.png"]
    third = draw(network, out, "--prompts", "a dog")
    assert third.exit_code == 0
    assert "replaces 1 picture of an earlier call: 0-a-dog-seed0000.png" in third.stderr


def test_a_benchmark_replaces_only_a_record(tmp_path):
    from benchmarks.harness import Bench

    path = Path(tmp_path / "x.json")
    path.write_text(json.dumps({"mine": 1}))
    with pytest.raises(UserError, match="x.json is no JSON file with benchmark, rows"):
        Bench("title", {"json_path": path, "device": "cpu", "rounds": 1, "seconds": 1})
