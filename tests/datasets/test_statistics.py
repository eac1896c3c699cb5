"""The statistics of an import and of a data set: bins, duplicates, near-empty captions."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from datasets import contact_sheet
from datasets.archive import Archive
from datasets.contact_sheet import drawable
from datasets.statistics import Statistics, num_repeated, table_lines
from datasets.text_image import Record
from tests.datasets.conftest import picture
from tests.datasets.tool import run


def test_bins_and_extremes():
    statistics = Statistics()
    for size in ((10, 20), (31, 31), (32, 40), (127, 64), (5000, 4096), (300, 100)):
        statistics.add(size, ("a bird sits", "x y"))
    table = statistics.table(2)
    assert table["smallest"] == [10, 20] and table["largest"] == [5000, 4096]
    assert table["shorter_side_px"] == {"0-31": 2, "32-63": 1, "64-127": 2, "4096+": 1}
    assert table["width_by_height"] == {
        "0.5-0.67": 1,
        "0.8-0.95": 1,
        "0.95-1.05": 1,
        "1.05-1.25": 1,
        "1.5-2": 1,
        "2+": 1,
    }
    assert table["captions_a_picture"] == {"2": 6}
    assert table["words_a_caption"] == {"2-3": 12}
    assert table["duplicate_pictures"] == 2 and table["near_empty_captions"] == 6
    assert json.loads(json.dumps(table)) == table


@pytest.mark.parametrize(
    "width, height, name",
    [
        (49, 100, "0-0.5"),
        (50, 100, "0.5-0.67"),
        (75, 100, "0.67-0.8"),
        (90, 100, "0.8-0.95"),
        (100, 100, "0.95-1.05"),
        (110, 100, "1.05-1.25"),
        (400, 300, "1.25-1.5"),
        (16, 9, "1.5-2"),
        (200, 100, "2+"),
    ],
)
def test_shapes(width, height, name):
    statistics = Statistics()
    statistics.add((width, height), ())
    assert statistics.table(0)["width_by_height"] == {name: 1}


@pytest.mark.parametrize(
    "caption, words, near_empty",
    [
        ("a bird", "2-3", False),
        ("bird", "1", True),
        ("a b", "2-3", True),
        ("1234 5678", "2-3", True),
        ("a red bird on a branch", "6-7", False),
        ("\u7ea2\u8272\u7684\u9e1f", "4-5", False),
        ("\u7ea2\u9e1f", "2-3", True),
        ("\u043f\u0442\u0438\u0446\u0430 \u0438", "2-3", False),
        (" ".join(["word"] * 51), "51+", False),
    ],
)
def test_words(caption, words, near_empty):
    statistics = Statistics()
    statistics.add((8, 8), (caption,))
    table = statistics.table(0)
    assert table["words_a_caption"] == {words: 1}
    assert table["near_empty_captions"] == int(near_empty)


def test_repeats():
    assert num_repeated(np.array([5, 5, 7, 5, 8], np.uint64)) == 2
    assert num_repeated(np.array([], np.uint64)) == 0


def test_nothing_added():
    assert list(table_lines(Statistics().table(0))) == [
        "Duplicates: 0 pictures repeat the pixels of an earlier one"
    ]


@pytest.fixture
def photos(tmp_path):
    """Four pictures, two of them equal at 16 x 16; four captions, one of them near-empty."""
    for name, colour, size, text in (
        ("train/a", "red", (30, 30), "a red thing\nred"),
        ("train/b", "red", (60, 40), "another red thing on a table"),
        ("test/c", "blue", (300, 100), "blue all over it"),
        ("train/d", "green", (16, 16), None),
    ):
        picture(tmp_path / "in" / f"{name}.png", colour, size)
        if text is not None:
            (tmp_path / "in" / f"{name}.txt").write_text(text)
    result = run(
        "folder",
        "--source",
        tmp_path / "in",
        "--dest",
        tmp_path / "x.zip",
        "--resolution",
        16,
        "--workers",
        1,
    )
    assert result.exit_code == 0, result.output
    return tmp_path / "x.zip", result.stdout


TABLE = """\
Shorter side of source pictures in pixels: 0-31: 1 (33%), 32-63: 1 (33%), 64-127: 1 (33%)
Smallest 30x30, largest 300x100
Width / height of source pictures: 0.95-1.05: 1 (33%), 1.5-2: 1 (33%), 2+: 1 (33%)
Captions a picture: 1: 2 (67%), 2: 1 (33%)
Words a caption: 1: 1 (25%), 2-3: 1 (25%), 4-5: 1 (25%), 6-7: 1 (25%)
Duplicates: 1 pictures repeat the pixels of an earlier one
Near-empty captions (fewer than 2 words or 4 letters): 1
"""


def test_an_import_prints_the_table_and_keeps_it(photos):
    path, told = photos
    assert TABLE in told
    table = Archive(path).metadata["statistics"]
    assert "".join(f"{line}\n" for line in table_lines(table)) == TABLE


def test_show_draws_a_sheet_and_prints_the_same_table(photos, tmp_path):
    path, _ = photos
    sheet = tmp_path / "sheet.png"
    result = run("show", "--source", path, "--dest", sheet)
    assert result.exit_code == 0, result.output
    assert result.stdout == TABLE + f"{sheet}: 3 of 3 pictures\n"
    drawn = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    for colour in ([255, 0, 0], [0, 0, 255]):  # the pictures are enlarged to 224 x 224
        area = (abs(drawn - colour).max(-1) <= 4).sum()
        assert area == 224 * 224 * (2 if colour[0] else 1)
    assert (drawn == 0).all(-1).sum() > 100  # captions in black
    first = sheet.read_bytes()
    assert (
        run("show", "--source", path, "--dest", sheet).exit_code == 0
    )  # an earlier sheet is replaced
    assert sheet.read_bytes() == first


def test_show_of_a_split_counts_that_split(photos, tmp_path):
    path, _ = photos
    for split, count in (("train", 2), ("test", 1)):
        result = run(
            "show",
            "--source",
            path,
            "--dest",
            tmp_path / "s.png",
            "--split",
            split,
            "--num-images",
            1,
        )
        assert result.exit_code == 0 and f"1 of {count} pictures" in result.stdout
        assert "Shorter side of pictures in the data set in pixels: 0-31:" in result.stdout


def test_show_draws_by_the_seed_and_takes_long_and_missing_captions(tmp_path):
    for number in range(9):
        picture(tmp_path / "in" / f"{number}.png", (28 * number, 0, 0), (99, 99))
    (tmp_path / "in/0.txt").write_text("x" * 300 + "\n" + "\n".join(["a caption of words"] * 20))
    source = ["folder", "--source", tmp_path / "in", "--workers", 1, "--resolution", "512x256"]
    for name, flag in (("bare.zip", "--no-captions"), ("text.zip", "--captions-from=NAME.txt")):
        assert run(*source, flag, "--dest", tmp_path / name).exit_code == 0
        result = run("show", "--source", tmp_path / name, "--dest", tmp_path / f"{name}.png")
        assert result.exit_code == 0, result.output
    assert re.search(r"Captions a picture: 21\+: 1 \(100%\)", result.stdout)
    sizes = [Image.open(tmp_path / f"{name}.png").size for name in ("bare.zip", "text.zip")]
    assert sizes[0] == (3 * 236 + 12, 3 * (112 + 12 + 2 * 17 + 12)) and sizes[1][0] == 236 + 12
    sheets = set()
    for seed in range(3):
        run(
            "show",
            "--source",
            tmp_path / "bare.zip",
            "--dest",
            tmp_path / "s.png",
            "--seed",
            seed,
            "--num-images",
            2,
        )
        sheets.add((tmp_path / "s.png").read_bytes())
    assert len(sheets) > 1


@pytest.mark.parametrize(
    "text, drawn",
    [("a caf\u00e9 \u2013 \u201cred\u201d\u2026", 'a cafe - "red"...'), ("\u7ea2 bird", "? bird")],
)
def test_letters_that_the_font_lacks(text, drawn):
    assert drawable(text) == drawn


class CountingFont:
    """A font of which each letter is 7 px wide; it counts what is measured."""

    measured = 0

    def getlength(self, text):
        self.measured += 1
        return 7 * len(text)


@pytest.mark.parametrize("text", ["x" * 2000, "x " * 1000, "long" * 99 + " word" * 400])
def test_only_what_a_sheet_shows_of_a_long_caption_is_measured(text):
    font = CountingFont()
    record = Record(torch.zeros(3, 8, 8), (text, text), "y" * 2000)
    lines = contact_sheet._text_lines(record, font)
    assert len(lines) == 1 + 8 and lines[-1] == ("...", "grey")
    assert lines[0] == ("y" * 32, "grey") and all(len(line) <= 32 for line, _ in lines)
    assert font.measured < 400


def test_a_long_word_fills_its_lines():
    font, word = ImageFont.load_default(13), "iWmA." * 30
    lines = list(contact_sheet._wrapped(f"a {word}", font))
    assert lines[0] == "a" and "".join(lines[1:]) == word
    assert all(font.getlength(line) <= 224 for line in lines)
    pairs = zip(lines[1:], lines[2:], strict=False)
    assert all(font.getlength(line + after[0]) > 224 for line, after in pairs)


def test_show_leaves_other_files_alone(photos, tmp_path):
    path, _ = photos
    other = picture(tmp_path / "holiday.png")
    before = other.read_bytes()
    result = run("show", "--source", path, "--dest", other)
    assert result.exit_code == 1 and "holiday.png is no picture that this program" in result.stderr
    assert other.read_bytes() == before
    result = run("show", "--source", path, "--dest", tmp_path / "sheet.jpg")
    assert result.exit_code == 1 and "a name that ends in .png" in result.stderr
