"""The ten commands of docs/tutorial.md, read from the page and run in order on small data.

What replaces what is in `SMALL`; a command is changed in no other way.
"""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

import train
from tests.commands.forked import succeed
from tests.commands.page_commands import commands, miniature

COMMANDS = commands("tutorial.md")
# A word of the page, and the word that the test runs in its place.
SMALL = {
    "eidgan-flowers64": "debug",
    "10": "0.032",  # --kimg
    "90": "0.064",
    "64x64": "32x32",
    "1000x600": "50x30",
    "512x512": "24x24",
    "1024x512": "48x24",
    "500": "8",  # --num-images
    "0.1": "0.4",  # --test-share
}


def test_there_are_ten_and_each_word_of_the_table_is_used():
    assert len(COMMANDS) == 10
    words = {word for command in COMMANDS for word in command}
    assert words >= SMALL.keys()


def test_the_trainings_of_the_page_are_valid_as_they_stand():
    trainings = [words for words in COMMANDS if words[0] == "train.py"]
    assert len(trainings) == 2
    for words in trainings:
        done = CliRunner().invoke(train.main, [*words[1:], "--dry-run"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["recipe"] == "eidgan-flowers64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 photographs of plain colours, with captions beside them."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "photos").mkdir()
    for i in range(40):
        colour = (6 * i, 255 - 6 * i, 5 * (i % 8) ** 2)
        Image.new("RGB", (60 + i, 50), colour).save(folder / "photos" / f"{i}.jpg")
        caption = f"a cat of the colour {i}\n"
        (folder / "photos" / f"{i}.txt").write_text(caption, encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.multi_process
def test_the_commands_lead_from_pictures_to_scores(folder):
    outputs = [succeed(*miniature(words, folder, SMALL)) for words in COMMANDS]

    assert (folder / "photos.png").is_file()  # the sheet
    snapshots = [path.name for path in (folder / "runs" / "photos").glob("network-snapshot-*")]
    assert snapshots
    assert "Resumed from" in outputs[4].stdout and "kimg 0.064" in outputs[4].stdout
    assert len([*(folder / "out" / "first").glob("*-seed*.png")]) == 4
    for name, size in (("large", (50, 30)), ("zoom", (24, 24)), ("beyond", (48, 24))):
        [path] = (folder / "out" / name).iterdir()
        with Image.open(path) as picture:
            assert picture.size == size
    lines = (folder / "runs" / "photos-scores.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["metric"] for record in records] == ["kid_lite2", "clip_s_small_heldout"]
    assert all(isinstance(record["value"], float) for record in records)
    assert "kid_lite2" in outputs[9].stdout
