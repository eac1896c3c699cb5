"""dataset_tool.py as users run it: exit codes, messages, faults of `verify`, a stopped run."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from datasets.text_image import TextImageDataset
from tests.datasets.picture_bytes import saved
from tests.datasets.tool import run

ROOT = Path(__file__).resolve().parents[2]


def fails(*args):
    result = run(*args)
    assert result.exit_code == 1 and result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, size in enumerate([(40, 20), (20, 40), (30, 30)]):
        Image.new("RGB", size, (80 * i, 0, 0)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture {i}\na shade of red\n")
    return folder


def test_folder_then_verify(tmp_path, photos):
    (photos / "bad.png").write_text("no picture")
    (photos / "bad.txt").write_text("bad")
    dest = tmp_path / "a.zip"
    result = run(
        "folder", "--source", photos, "--dest", dest, "--resolution", "16x8", "--transform", "pad"
    )
    assert result.exit_code == 0
    assert (
        "Skipped bad.png: cannot identify" in result.stdout and "Skipped 1 files" in result.stdout
    )
    dataset = TextImageDataset(tmp_path / "a.zip")
    assert (
        len(dataset) == 3
        and dataset.resolution == (16, 8)
        and dataset.info["skipped"][0]["file"] == "bad.png"
    )
    result = run("verify", "--source", tmp_path / "a.zip")
    assert (
        result.exit_code == 0
        and result.stdout.count("\n") == 1
        and "3 pictures of 16x8" in result.stdout
    )


def test_openmoji_to_a_plain_folder(tmp_path):
    result = run("openmoji", "--dest", tmp_path / "set", "--resolution", "16", "--max-images", "12")
    assert (
        result.exit_code == 0
        and "12 pictures of 16x16" in result.stdout
        and "Left out 445" in result.stdout
    )
    assert run("verify", "--source", tmp_path / "set").exit_code == 0
    assert os.listdir(tmp_path) == ["set"]


def test_wrong_input_is_one_line(tmp_path, photos):
    dest = ["--dest", tmp_path / "a.zip"]
    assert "no such folder" in fails("folder", "--source", tmp_path / "x", *dest)
    assert "size '0x5'" in fails("folder", "--source", photos, *dest, "--resolution", "0x5")
    assert "size 'big'" in fails("openmoji", *dest, "--resolution", "big")
    (photos / "captions.jsonl").write_text('{"file": "0.png", "caption": "x"}\n')
    assert "line 1: unknown key 'caption'" in fails("folder", "--source", photos, *dest)
    assert (
        "a.zip: cannot be written"
        in run("openmoji", "--dest", photos / "0.png" / "a.zip", "--max-images", "1").stderr
    )
    assert run("folder", "--source", photos, *dest, "--test-share", "1").exit_code == 2
    assert run("folder", "--source", photos).exit_code == 2
    assert run("folder", "--source", photos, *dest, "--transform", "fold").exit_code == 2
    assert not (tmp_path / "a.zip").exists()


def test_nothing_usable_names_the_files_and_fails(tmp_path, photos):
    for text in photos.glob("*.txt"):
        text.unlink()
    result = run("folder", "--source", photos, "--dest", tmp_path / "a.zip")
    assert result.exit_code == 1 and "photos: 3 pictures without captions: none of" in result.stderr
    assert "--no-captions" in result.stderr and "--caption-template" in result.stderr
    assert not (tmp_path / "a.zip").exists()
    for number in range(3):
        (photos / f"{number}.txt").write_text("\n")
    result = run("folder", "--source", photos, "--dest", tmp_path / "a.zip")
    assert result.exit_code == 1 and result.stdout.count(".txt is empty") == 3
    assert "photos: no picture has captions that can be used; --no-captions" in result.stderr
    for number in range(3):
        (photos / f"{number}.png").write_bytes(b"damaged")
        (photos / f"{number}.txt").write_text("a picture")
    result = run("folder", "--source", photos, "--dest", tmp_path / "a.zip")
    assert result.exit_code == 1 and result.stdout.count("cannot identify") == 3
    assert "no usable picture" in result.stderr and not (tmp_path / "a.zip").exists()


def damaged(path, *, index=None, files=None):
    """Write a copy of the archive with a changed index or changed files (None removes a file)."""
    with zipfile.ZipFile(path) as old:
        content = {name: old.read(name) for name in old.namelist()}
    metadata = json.loads(content["dataset.json"])
    if index:
        index(metadata["items"])
    content |= files or {}
    content["dataset.json"] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, data in content.items():
            if data is not None:
                new.writestr(name, data)


def png(mode, size):
    return saved(Image.new(mode, size), "PNG")


FIRST = "00000/img00000000.png"


@pytest.mark.parametrize(
    "change, fault",
    [
        (
            {"index": lambda items: items[1].update(id=items[0]["id"])},
            "items[1]: id '0.png' is not unique",
        ),
        (
            {"index": lambda items: items[1].update(file=FIRST)},
            "items[1]: file '00000/img00000000.png' is not unique",
        ),
        (
            {"index": lambda items: items[2].update(captions=[])},
            "1 of 3 pictures have no captions (00000/img00000002.png); give captions to all",
        ),
        ({"index": lambda items: items[2].update(captions=[""])}, "is not a text, or is empty"),
        ({"index": lambda items: items[0].update(split="dev")}, "split must be one of train, test"),
        ({"index": lambda items: items.clear()}, "items is empty"),
        ({"index": lambda items: items.append(7)}, "items[3]: expected an object, got 7"),
        ({"files": {FIRST: png("RGB", (8, 4))}}, "img00000000.png: size is 8x4, not 8x8"),
        ({"files": {FIRST: png("RGBA", (8, 8))}}, "img00000000.png: mode is RGBA, not RGB"),
        ({"files": {FIRST: b"text"}}, "img00000000.png: not a readable picture"),
        ({"files": {FIRST: None}}, "img00000000.png, which is not there"),
        ({"files": {"extra.png": b""}}, "extra.png: not listed in dataset.json"),
    ],
)
def test_verify_names_each_fault(tmp_path, photos, change, fault):
    path = tmp_path / "a.zip"
    run("folder", "--source", photos, "--dest", path, "--resolution", "8")
    damaged(path, **change)
    result = run("verify", "--source", path)
    assert result.exit_code == 1
    assert any(fault in line for line in result.stdout.splitlines()), result.stdout


def test_verify_finds_several_faults_and_a_cut_file(tmp_path, photos):
    path = tmp_path / "a.zip"
    run("folder", "--source", photos, "--dest", path, "--resolution", "8")
    damaged(path, files={FIRST: b"text", "00000/img00000002.png": png("L", (8, 8))})
    assert run("verify", "--source", path).stdout.count("\n") == 2
    path.write_bytes(path.read_bytes()[:300])
    result = run("verify", "--source", path)
    assert (
        result.exit_code == 1
        and "not a whole zip" in result.stdout
        and result.stdout.count("\n") == 1
    )


def start(*args):
    command = [sys.executable, "dataset_tool.py", *map(str, args)]
    heed = partial(
        signal.signal, signal.SIGINT, signal.default_int_handler
    )  # background jobs of a shell ignore SIGINT
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,
    )


@pytest.mark.slow
def test_errors_in_a_real_process(tmp_path):
    process = start("folder", "--source", tmp_path / "x", "--dest", tmp_path / "a.zip")
    out, err = process.communicate()
    assert (
        process.returncode == 1
        and out == ""
        and err.startswith("Error: ")
        and "Traceback" not in err
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_nothing_behind(tmp_path, number):
    process = start("openmoji", "--dest", tmp_path / "a.zip", "--resolution", "128")
    while process.poll() is None and not any(
        p.stat().st_size > 100_000 for p in tmp_path.iterdir()
    ):
        time.sleep(0.02)
    assert [p.name.startswith(".a.zip.") for p in tmp_path.iterdir()] == [
        True
    ]  # the archive was being written
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode != 0 and "Traceback" not in err, err
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_sorted_pictures_is_a_fair_draw(tmp_path):
    for number in range(40):
        place = tmp_path / "photos" / ("a" if number < 20 else "b")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(place / f"{number}.png")
        (place / f"{number}.txt").write_text("a colour")
    indices = []
    for name, num in (("few", 10), ("more", 20), ("all", 40)):
        done = run(
            "folder",
            "--source",
            tmp_path / "photos",
            "--dest",
            tmp_path / name,
            "--resolution",
            4,
            "--test-share",
            0,
            "--max-images",
            num,
        )
        assert done.exit_code == 0, done.output
        indices.append(json.loads((tmp_path / name / "dataset.json").read_text()))
    few, more, whole = ([item["id"] for item in index["items"]] for index in indices)
    assert few == more[:10] and 2 < sum(name.startswith("a/") for name in few) < 8
    assert len(whole) == 40 and whole == sorted(whole)
    assert indices[0]["part"] == "10 usable ones of 40 pictures, a seeded draw"
    assert "part" not in indices[2]
