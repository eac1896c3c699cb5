"""OpenMoji: names, concepts, split, colours, phrases and rendering of the installed drawings."""

import collections

import numpy as np
import pytest

from datasets.archive import write_archive
from datasets.colours import dominant_colours
from datasets.openmoji import (
    concept_of,
    find_emojis,
    openmoji_info,
    openmoji_pictures,
    over_white,
    render_svg,
)
from datasets.phrases import clean_name, colour_phrases, flag_names, with_article

CIRCLE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}">{body}</svg>'


def drawn(tmp_path, body, w=72, h=72, size=(72, 72)):
    (tmp_path / "x.svg").write_text(CIRCLE.format(w=w, h=h, body=body))
    return render_svg(tmp_path / "x.svg", size)


@pytest.fixture(scope="module")
def emojis():
    return find_emojis()[0]


@pytest.mark.parametrize(
    "body, colours",
    [
        (
            '<circle cx="36" cy="36" r="30" fill="#e01010" stroke="#000" stroke-width="2"/>',
            ("red",),
        ),
        (
            '<rect width="40" height="72" fill="#0a0"/>'
            '<rect x="40" width="32" height="72" fill="#f00"/>',
            ("green", "red"),
        ),
        (
            '<rect width="66" height="72" fill="#fcea2b"/>'
            '<rect x="66" width="6" height="72" fill="#00f"/>',
            ("yellow",),
        ),
        (
            '<circle cx="36" cy="36" r="30" fill="#fc0" stroke="#000" stroke-width="6"/>',
            ("yellow",),
        ),
        ('<path d="M10 10 L60 60" stroke="#000" stroke-width="2"/>', ("black",)),
        ('<path d="M10 10 L60 60" stroke="#1060ff" stroke-width="2"/>', ("blue",)),
        ('<circle cx="36" cy="36" r="30" fill="#fff" stroke="#000" stroke-width="2"/>', ("white",)),
        (
            '<rect width="36" height="72" fill="#000"/>'
            '<rect x="36" width="36" height="72" fill="#fff"/>',
            ("black", "white"),
        ),
        ('<rect width="72" height="72" fill="#8b5a2b"/>', ("brown",)),
        ('<rect width="72" height="72" fill="#ff7f0e"/>', ("orange",)),
        ('<rect width="72" height="72" fill="#7f7f7f"/>', ("grey",)),
        ('<rect width="72" height="72" fill="#9467bd"/>', ("purple",)),
        ('<rect width="72" height="72" fill="#ffb6c1"/>', ("pink",)),
        ("", ()),
    ],
)
def test_dominant_colours(tmp_path, body, colours):
    found = dominant_colours(drawn(tmp_path, body))
    assert found == colours or (
        len(colours) == 2 and set(found) == set(colours) and colours == ("black", "white")
    )


def test_drawings_that_are_not_square_are_centred(tmp_path):
    body = '<rect width="100" height="100" fill="#00f"/>'
    for w, h, rows, columns in ((72, 36, 16, 32), (36, 72, 32, 16)):
        alpha = drawn(tmp_path, body, w, h, size=(32, 32))[..., 3] > 0
        assert alpha.any(1).sum() == rows and alpha.any(0).sum() == columns
        assert np.array_equal(alpha, alpha[::-1, ::-1])


def test_background_is_white_and_edges_are_smooth(tmp_path):
    image = over_white(
        drawn(tmp_path, '<circle cx="36" cy="36" r="30" fill="#000"/>', size=(32, 32))
    )
    assert (image[0, 0] == 255).all() and (image[16, 16] == 0).all()
    assert len(np.unique(image)) > 5


@pytest.mark.parametrize(
    "shortcode, name",
    [
        (":red_apple:", "red apple"),
        (":artist_medium-light_skin_tone:", "artist with medium-light skin tone"),
        (":man_dark_skin_tone_red_hair:", "man with dark skin tone and red hair"),
        (":woman_bald:", "bald woman"),
        (":family_man_woman_girl:", "family of man, woman and girl"),
        (
            ":couple_with_heart_woman_man_dark_skin_tone_light_skin_tone:",
            "couple of woman and man with dark and light skin tones and a heart",
        ),
        (":medium_skin_tone:", "medium skin tone"),
    ],
)
def test_clean_name(shortcode, name):
    assert clean_name(shortcode) == name


@pytest.mark.parametrize(
    "name, phrase",
    [
        ("apple", "an apple"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("SOS button", "an SOS button"),
        ("UP! button", "an UP! button"),
        ("one-piece swimsuit", "a one-piece swimsuit"),
        ("x-ray", "an x-ray"),
        ("glasses", "glasses"),
        ("compass", "a compass"),
        ("octopus", "an octopus"),
        ("men wrestling", "men wrestling"),
        ("garlic", "garlic"),
        ("flag of Chad", "the flag of Chad"),
        ("Santa Claus", "Santa Claus"),
        ("glass of milk", "a glass of milk"),
        ("busts in stone", "busts in stone"),
    ],
)
def test_with_article(name, phrase):
    assert with_article(name) == phrase


def test_colour_phrases():
    assert colour_phrases("red apple", ["red", "green"]) == [
        "a red and green icon of an apple",
        "an apple drawn in red and green",
    ]
    assert colour_phrases("eye", ["orange"]) == [
        "an orange icon of an eye",
        "an eye drawn in orange",
    ]
    assert colour_phrases("red heart", ["blue"])[0] == "a blue icon of a red heart"
    assert colour_phrases("eye", []) == ["an icon of an eye"]
    assert flag_names("Bahamas") == ["flag of the Bahamas", "Bahamas flag"]


def test_the_apple(emojis):
    apple = next(
        picture for picture in openmoji_pictures([e for e in emojis if e.id == "1F34E"], (32, 32))
    )
    assert (
        apple.captions[:2] == ("red apple", "apple") and "a red icon of an apple" in apple.captions
    )
    assert apple.image.shape == (32, 32, 3)


def test_nearly_all_drawings_have_names():
    emojis, unnamed = find_emojis()
    assert len(emojis) > 4000 and len(emojis) + len(unnamed) == 4495
    assert all(
        name == name.strip() and "_" not in name and ":" not in name
        for e in emojis
        for name in e.names
    )
    assert all(len({n.lower() for n in e.names}) == len(e.names) for e in emojis)


def test_variants_of_a_concept_share_it():
    def concept(text):
        return concept_of(tuple(int(part, 16) for part in text.split("-")))

    groups = [
        ["1F44D", "1F44D-1F3FB", "1F44D-1F3FF"],
        ["1F9D1-200D-1F680", "1F468-1F3FD-200D-1F680", "1F469-200D-1F680"],
        ["1F46E", "1F46E-1F3FB-200D-2640-FE0F", "1F46E-200D-2642-FE0F"],
        ["1F46B", "1F46D-1F3FB", "1F469-1F3FB-200D-1F91D-200D-1F468-1F3FC"],
        ["1F48F", "1F469-200D-2764-FE0F-200D-1F48B-200D-1F468"],
        ["1F46A", "1F468-200D-1F469-200D-1F467", "1F9D1-200D-1F9D1-200D-1F9D2"],
        ["1F9D1", "1F468-1F3FB", "1F469-200D-1F9B0"],
    ]
    assert [len({concept(text) for text in group}) for group in groups] == [1] * len(groups)
    assert len({concept(group[0]) for group in groups}) == len(groups)
    assert concept("1F3FB") and concept("2640-FE0F")


def test_split(emojis):
    sides = collections.defaultdict(set)
    for emoji in emojis:
        sides[emoji.concept].add(emoji.split)
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {"test"} for side in sides.values()) == round(0.15 * len(sides))
    few = find_emojis(max_images=50)[0]
    assert len(few) == 50 and set(few) <= set(
        emojis
    )  # with max_images, each drawing keeps its split
    assert [e.split for e in find_emojis(seed=1)[0]] != [e.split for e in emojis]


def test_flags_with_one_drawing_stay_on_one_side(emojis):
    flags = [e for e in emojis if e.names[0].startswith("flag of")]
    sides = collections.defaultdict(set)
    for flag in flags:
        sides[render_svg(flag.path, (72, 72)).tobytes()].add(flag.split)
    assert len(flags) > 200 and len(sides) < len(flags)
    assert all(len(side) == 1 for side in sides.values())


def test_two_runs_give_the_same_bytes_and_captions_do_not_depend_on_size(tmp_path):
    emojis, unnamed = find_emojis(max_images=20)
    captions = {}
    for name, size in (("a", 16), ("b", 16), ("c", 48)):
        info = openmoji_info(emojis, unnamed)
        entries = write_archive(
            tmp_path / f"{name}.zip", openmoji_pictures(emojis, (size, size)), (size, size), info
        )
        captions[name] = [entry.captions for entry in entries]
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert captions["a"] == captions["c"]


def test_licence_is_recorded(emojis):
    info = openmoji_info(emojis, ["E000"])
    assert (
        info["licence"] == "CC-BY-SA-4.0"
        and "OpenMoji" in info["attribution"]
        and info["left_out"]["count"] == 1
    )
