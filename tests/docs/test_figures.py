"""Every measured figure in README.md and docs/ has a record, and the text says what it says."""

from __future__ import annotations

import json
import re

import pytest

from dnnlib.errors import UserError
from docs import figure_records, figures
from docs.figure_records import RESULTS, look_up, read_record
from docs.figure_tables import TABLES, sensitivity
from docs.figures import LEFT_ALONE, NOT_MEASURED, pages, unrecorded, updated

PAGES = {name: path.read_text(encoding="utf-8") for name, path in pages().items()}
EXCEPTIONS = [(page, part) for page, parts in NOT_MEASURED.items() for part in parts]


@pytest.mark.parametrize("page", PAGES)
def test_the_page_says_what_the_records_say(page):
    assert updated(PAGES[page]) == PAGES[page], "run `make figures`"


@pytest.mark.parametrize("page", PAGES)
def test_every_measured_figure_has_a_record(page):
    missing = list(unrecorded(page, PAGES[page]))
    assert not missing, "CONTRIBUTING.md says how a figure gets its record:\n" + "\n".join(missing)


@pytest.mark.parametrize("page, part", EXCEPTIONS)
def test_every_exception_is_needed(page, part, monkeypatch):
    others = {other: reason for other, reason in NOT_MEASURED[page].items() if other != part}
    monkeypatch.setitem(NOT_MEASURED, page, others)
    assert list(unrecorded(page, PAGES[page])), f"{page} no longer needs {part!r}"
    assert LEFT_ALONE.keys().isdisjoint(NOT_MEASURED)


def test_every_record_that_a_page_names_exists():
    for page, text in PAGES.items():
        for name in re.findall(r"(?<![\w/-])(20\d\d-\d\d-\d\d-[\w-]+)\.(?:json|md)\b", text):
            assert [*RESULTS.glob(f"{name}.*")], f"{page} names {name}"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_transcribed_record_says_what_was_measured(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("transcribed"):
        assert record["date"] == path.name[:10]
        assert {"from", "hardware", "config", "command"} <= record.keys()
        assert record.keys() & {"values", "rows"}


@pytest.mark.parametrize(
    "figure",
    [
        "A picture takes 7.5 s.",
        "It takes 12\nprocessor seconds.",
        "It is 3 times as fast as before.",
        "a gain of 4 % in time",
        "**2.3 x** the speed",
        "up to 340 images/s",
        "which draws 12 tiles a second",
        "a peak of 1,001 MiB",
        "The PSNR is 31.2 dB.",
        "after 3 core-hours",
        "`kid_lite2` 0.377",
        "`clip_s_small_heldout` of 0.34",
        "| name | fast |\n|---|---|\n| `eidgan` | 0.62 |",
    ],
)
def test_a_new_figure_without_a_record_is_found(figure):
    for page in PAGES:
        [found] = unrecorded(page, f"# Title of a new page\n\n{figure}\n")
        assert found.startswith(f"{page}:")


@pytest.mark.parametrize(
    "text",
    [
        "64 x 64 pixels, 256 x 256, a grid of 2 x P pixels",
        "PyTorch 2.14.1, Python 3.11+, version 0.2.0, compute capability 8.6",
        "on 2026-11-21, 17.8 M parameters, 34 GMAC, 140 kimg, batch 32",
        "the first 2 scales of 4 sizes",
        "`--rotate 30`, `12 s`, [a page](any/12 s.md)",
        "```\ntakes 12 s\n```",
        "<!-- 12 s -->",
        "| a | b |\n|---|---|\n| 12 | PyTorch 2.14.1 |",
    ],
)
def test_other_numbers_are_no_figures(text):
    assert not list(unrecorded("docs/x.md", f"# Title\n\n{text}\n"))


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A record named `speed`, which is in the folder of the records for one test."""
    read_record.cache_clear()
    rows = [{"size": 64, "kind": "a", "ms": 1234.5}, {"size": 64, "kind": "b", "ms": 0.25}]
    (tmp_path / "speed.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(figure_records, "RESULTS", tmp_path)
    monkeypatch.setattr(figure_records, "ROOT", tmp_path)
    yield
    read_record.cache_clear()


def page(text, *sources):
    lines = "".join(f"{source}\n" for source in sources)
    return f"{text}\n\n<!-- figures of this page, ...\n{lines}-->\n"


def test_a_figure_is_written_from_its_record(record):
    sources = (
        "takes {} ms, or {} s, <- speed: rows/kind=a/ms; rows/size=64,kind=a/ms over 1000",
        "ratio of {} <- speed: rows/kind=a/ms over rows/kind=b/ms",
    )
    new = page("It takes 1.0\nms, or 9.99 s, a ratio of 1.", *sources)
    assert updated(new) == page("It takes 1,234.5\nms, or 1.23 s, a ratio of 4,938.", *sources)
    assert not list(unrecorded("x.md", new))
    assert len([*unrecorded("x.md", page("It takes 1.0\nms, or 9.99 s, a ratio of 1."))]) == 2


@pytest.mark.parametrize(
    "text, source, message",
    [
        ("1 s, 2 s", "{} s <- speed: rows/kind=a/ms", "'{} s' occurs 2 times"),
        ("no more", "{} s <- speed: rows/kind=a/ms", "'{} s' occurs 0 times"),
        ("1 s", "{} s <- slow: rows/0/ms", "slow.json: no such record"),
        ("1 s", "{} s <- speed: rows/0/s", "no 's'; there are size, kind, ms"),
        ("1 s", "{} s <- speed: rows/size=64/ms", "2 elements have size=64, expected 1"),
        ("1 s", "{} s, speed: rows/0/ms", "expected TEXT with {} <- RECORD: PLACE"),
        ("1 s", "{} s <- speed: rows/0/ms; rows/1/ms", "expected TEXT with {}"),
    ],
)
def test_a_wrong_source_is_one_line(record, text, source, message):
    with pytest.raises(UserError, match=re.escape(message)):
        updated(page(text, source))


def test_a_table_is_written_whole():
    begin, end = "<!-- figures: ranks 2026-11-26-ranks -->\n", "<!-- end of figures -->\n"
    text = f"before\n\n{begin}old\n{end}\nafter 12 s\n"
    rows = TABLES["ranks"](read_record("2026-11-26-ranks"))
    assert updated(text) == f"before\n\n{begin}{rows}{end}\nafter 12 s\n"
    assert [*unrecorded("x.md", text)] == ["x.md:7: 12 s"]
    with pytest.raises(UserError, match="no table 'rank' in docs/figure_tables.py"):
        updated(text.replace(": ranks ", ": rank "))


def test_a_table_of_damages_has_three_digits():
    rows = [("a", {"x": 1.23456, "y": 0.0}), ("b", {"x": 2.0, "y": 1.0})]
    record = {"rows": [{"damage": name, "values": values} for name, values in rows]}
    lines = sensitivity(record).splitlines()
    assert lines == ["| Damage | x | y |", "|---|---|---|", "| a | 1.23 | 0 |", "| b | 2 | 1 |"]


def test_a_shipped_network_is_a_record():
    record = read_record("shipped/flowers64")
    assert record["parameters"] > 100_000 and record["bytes"] > record["parameters"]
    assert look_up(record, "scores/kid_lite2", "flowers64") > 0
    assert look_up(record, "info/training_time_s", "flowers64") > 0


def test_the_script_writes_the_pages_and_names_what_it_cannot(tmp_path, monkeypatch, capsys):
    path = tmp_path / "page.md"
    source = "took {} MiB <- 2026-11-26-checkpoints: mib"
    path.write_text(page("It took 1 MiB in 5 s.", source))
    monkeypatch.setattr(figures, "pages", lambda: {"page.md": path})
    figures.main()
    assert path.read_text() == page("It took 53 MiB in 5 s.", source)
    said = capsys.readouterr()
    assert said.out == "page.md\n" and said.err == "page.md:1: 5 s: no record\n"
    path.write_text(page("nothing", source))
    with pytest.raises(SystemExit, match="Error: page.md: 'took {} MiB' occurs 0 times"):
        figures.main()
