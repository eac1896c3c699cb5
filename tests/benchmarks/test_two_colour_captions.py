"""Two-colour captions: the colours in a caption and in a picture, the count and the command."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.two_colour_captions import (
    COLOURS,
    colour_names,
    main,
    matches,
    other_colours,
    two_colours,
)
from datasets.archive import Picture, write_archive

RGB = {
    "red": (220, 20, 30),
    "orange": (250, 140, 20),
    "yellow": (250, 230, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "purple": (140, 40, 220),
    "pink": (250, 150, 190),
    "white": (245, 240, 245),
    "brown": (100, 60, 20),
    "black": (10, 10, 10),
    "grey": (120, 120, 120),
}


def flower(petals: str, centre: str, side: int = 64) -> np.ndarray:
    """A disc in a larger disc of another colour, on green."""
    at = (np.arange(side) + 0.5) / side - 0.5
    radius = np.hypot(at[:, None], at)
    picture = np.full((side, side, 3), RGB["green"], np.uint8)
    picture[radius < 0.38] = RGB[petals]
    picture[radius < 0.12] = RGB[centre]
    return picture


@pytest.mark.parametrize(
    ("caption", "colours"),
    [
        ("this flower has Purple petals with a yellow center", ("purple", "yellow")),
        ("lavender colored petals and a gold colored centre", ("purple", "yellow")),
        ("white petals around a white center", None),
        ("red petals and pink petals, yellow center", None),
        ("yellow petals with a long stem", None),
        ("green petals with a yellow center", None),
    ],
)
def test_only_captions_with_two_colours_are_taken(caption, colours):
    found = two_colours(caption)
    assert (found and (found.petals, found.centre)) == colours


@pytest.mark.parametrize("name", COLOURS)
def test_colours_have_their_names(name):
    picture = np.full((2, 2, 3), RGB[name], np.uint8)
    assert {COLOURS[i] for i in colour_names(picture).flat} == {name}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("purple petals with a yellow center", True),
        ("purple petals with a red center", False),
        ("yellow petals with a purple center", False),
        ("white petals with a yellow center", False),
    ],
)
@pytest.mark.parametrize("side", [64, 160])
@pytest.mark.parametrize("shift", [0, 9])
def test_a_picture_matches_the_colours_of_petals_and_centre(caption, expected, side, shift):
    picture = np.roll(flower("purple", "yellow", side), shift * side // 64, axis=1)
    assert matches(picture, two_colours(caption)) == expected


def test_reference_captions_name_other_colours():
    names = ("purple", "yellow"), ("purple", "white"), ("white", "yellow"), ("pink", "red")
    captions = [two_colours(f"{petals} petals with a {centre} center") for petals, centre in names]
    assert other_colours(captions) == [captions[i] for i in (3, 2, 3, 0)]


@pytest.fixture
def flowers(tmp_path):
    """Four pictures of discs in two colours, with captions that name the colours."""
    pairs = [("purple", "yellow"), ("red", "white"), ("white", "yellow"), ("pink", "red")]
    pictures = [
        Picture(
            flower(petals, centre), f"id{i}", (f"{petals} petals with a {centre} center",), "test"
        )
        for i, (petals, centre) in enumerate(pairs)
    ]
    facts = {"name": "discs", "licence": "CC0", "resize_filter": "none", "source": "numpy"}
    write_archive(tmp_path / "discs.zip", pictures, (64, 64), facts)
    return tmp_path / "discs.zip"


def test_command_counts_and_writes(tmp_path, network, flowers):
    record, sheet = tmp_path / "record.json", tmp_path / "sheet.png"
    arguments = [
        "--network",
        str(network),
        "--data",
        str(flowers),
        "--num",
        "4",
        "--json",
        str(record),
        "--sheet",
        str(sheet),
    ]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = {row["pictures"]: row for row in json.loads(record.read_text())["rows"]}
    assert rows["real"] == {"pictures": "real", "num": 4, "matches": 4}
    assert rows["real, captions of other colours"]["matches"] == 0
    assert set(rows) == {
        *("generated", "real"),
        *("generated, captions of other colours", "real, captions of other colours"),
    }
    assert sheet.exists()
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1 and "exists already" in again.output


def test_too_few_captions_are_an_error(network, flowers):
    result = CliRunner().invoke(
        main, ["--network", str(network), "--data", str(flowers), "--num", "9"]
    )
    assert result.exit_code == 1 and "--num 9: 4 pictures" in result.output
