"""Write every measured figure of README.md and of the pages in docs/ from its record.

    make figures

A comment at the end of a page, which neither GitHub nor the site shows, says from where its figures
come, one line for each:

    of the view | {} s <- 2026-11-27-cpu-explorer: rows/case=new prompt/first_s

A line that begins with blanks continues the one before it.

The left side is a piece of the page, with `{}` in place of each figure; it occurs once. The figure
keeps the number of decimals that it has in the page. The right side names a record and, for each
`{}`, the place of its value, separated by semicolons. A record is `benchmarks/results/NAME.json`,
or `shipped/NAME` (the facts of a trained network of the repository), or `encoders/NAME` (the scores
of a small text encoder). A place is a path of keys. `case=new prompt` takes the one element of a
list that has this value; several such conditions are joined by commas. `A over B` divides: A and B
are places or numbers.

A table is written whole, by a function of docs/figure_tables.py:

    <!-- figures: ranks 2026-11-26-ranks -->
    ...
    <!-- end of figures -->

tests/docs/test_figures.py fails if a page differs from what this script writes, and if
`unrecorded` finds a figure without a record. The pages of `LEFT_ALONE` are left alone.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dnnlib.errors import UserError  # noqa: E402
from docs.figure_records import look_up, read_record  # noqa: E402
from docs.figure_tables import TABLES  # noqa: E402
from metrics.evaluations import EVALUATIONS  # noqa: E402

# Pages that are not looked at, each with the reason.
LEFT_ALONE = {
    "docs/comparison.md": "benchmarks/comparison.py writes the page from run folders",
    "docs/experiment_log.md": "a diary: an entry stays as it was written",
    "docs/paper_map.md": "choices, published numbers and counted ones; nothing is measured",
}
# What looks like a measured figure and is none: for each page, a heading (with its #) or a piece of
# a line, and the reason. A heading stands for its section and all subsections; a title stands for
# the text before the first heading with ##.
NOT_MEASURED: dict[str, dict[str, str]] = {
    "README.md": {"| EIDGAN | works:": "counted by networks.describe"},
    "docs/any_scale.md": {
        "| `--warp wave` |": "the setting of the warp",
        "arrays take 10 MB at": "calculated, as the sentence says",
    },
    "docs/trained_networks.md": {
        "| Data |": "published facts of the data sets",
    },
    "docs/cluster.md": {
        "| nothing, for 30 minutes |": "a time limit of PyTorch",
        "CUDA's context (about 0.5 GiB)": "assumed, as the sentence says",
        "## A model of 8 to 512 GPUs": "arithmetic from assumptions, as the section says",
    },
    "docs/configs.md": {
        "# Recipes: what they train, what they cost": "settings and counted parameters",
        "## Other systems and ablations": "settings, and published numbers of parameters",
        "## Patches of pictures of any size": "settings",
        "## Choosing the weight average afterwards": "computed from the formula of the averages",
    },
    "docs/datasets.md": {
        "## OpenMoji": "rules by which captions and splits are made",
        "blocks of 1,000 samples (or": "a setting of the loader",
        "(no byte of a pipe for": "a time limit of the loader",
        "5 and 25 s, each": "times that the loader waits",
    },
    "docs/evaluation.md": {
        "## The evaluations": "definitions, and numbers that papers have published",
        "most 100 dB. SSIM": "the limit of the measure",
        "100 dB in `eqt`": "the limit of the measure",
        "(12 kB each at": "the size of a picture in bytes, counted",
        "Then more than 1 % is": "the definition of the measure",
        "a motif of 30 %": "the setting of a damage",
    },
    "docs/explorer.md": {
        "read again every 10 seconds": "a setting of the page",
        "## How it works": "bounds that the server keeps",
    },
    "docs/gpu_check.md": {"less than 200 KiB": "a property of GPUs"},
    "docs/ops.md": {
        "## modulated_linear": "a threshold of the code",
        "## biline_decode": "counted from compiled code, and properties of GPUs",
        "## biline_render": "counted from compiled code",
        "| 1024: 4 x over": "a target",
        "| 1024: 2 x over": "a target",
        "as a CUDA graph: under 1 ms": "a target, and a figure with a record",
        "| pixel part's backward:": "targets",
        "| training step: 1.5 x": "a target",
        "## Counted": "counted from compiled code and in emulation, by scripts with records",
        "## Predicted": "arithmetic",
    },
    "docs/reports.md": {"| `calc --images` of class folders": "what the reported case printed"},
    "docs/security.md": {
        "## Limits": "limits of the code",
        "## The explorer's server": "bounds that the server keeps",
    },
    "docs/text_encoders.md": {
        "3.1 MB in": "the size of the weights, counted",
        "chance is 0.": "calculated from the numbers of concepts",
    },
}

NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
SOURCES = re.compile(
    r"^<!-- figures of this page[^\n]*\n(?P<lines>.*?)^-->$", re.DOTALL | re.MULTILINE
)
BLOCK = re.compile(
    r"(?P<begin><!-- figures: (?P<table>\w+)(?P<records>(?: [\w./-]+)+) -->\n)"
    r"(?P<body>.*?)(?P<end><!-- end of figures -->)",
    re.DOTALL,
)
# Blocks that other scripts write. A test of each script compares them with their source.
OTHER_BLOCKS = re.compile(
    r"<!-- costs: docs/cost_table.py -->.*?<!-- end of costs -->"
    r"|<!-- kernel-resources:begin -->.*?<!-- kernel-resources:end -->",
    re.DOTALL,
)
UNIT = (
    r"(?:%|x(?!\s*(?:\d|[A-Z(]\b))|dB|(?:processor\s)?seconds?|(?:core.)?(?:minutes?|hours?)|min|h"
    r"|[mu]?s|(?:\w+\s)?(?:a|per)\ssecond|\w+/s|[kKMGT]i?B|times\sas\s(?:fast|long)|times\sfaster)"
    r"(?!\w)"
)
MEASURED = re.compile(
    rf"(?<![\w.,/^-])(?P<unit>{NUMBER})\s*{UNIT}"
    rf"|SCORE\s+(?:(?:of|is|at|was)\s)?(?P<score>{NUMBER})"
    r"|^\|.*?(?<![\w.])(?P<cell>-?\d+\.\d+)(?![\w.])",
    re.MULTILINE,
)


def pages() -> dict[str, Path]:
    """The pages by name, without those of `LEFT_ALONE`."""
    found = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    named = {path.relative_to(ROOT).as_posix(): path for path in found}
    return {name: path for name, path in named.items() if name not in LEFT_ALONE}


def recorded(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, new text) of every figure that the comment at the end of a page names."""
    for comment in SOURCES.finditer(text):
        for line in re.sub(r"\n +", " ", comment["lines"]).splitlines():
            piece, arrow, source = line.partition(" <- ")
            record, colon, places = source.partition(": ")
            holes = piece.count("{}")
            if not (arrow and colon and holes) or holes != len(places.split("; ")):
                raise UserError(f"{line!r}: expected TEXT with {{}} <- RECORD: PLACE; PLACE")
            gaps = (r"\s+".join(map(re.escape, re.split(r"\s+", gap))) for gap in piece.split("{}"))
            found = list(re.finditer(f"({NUMBER})".join(gaps), text[: comment.start()]))
            if len(found) != 1:
                raise UserError(f"{piece!r} occurs {len(found)} times, expected 1")
            for group, place in enumerate(places.split("; "), start=1):
                old = found[0][group]
                value = quotient(read_record(record), place, record)
                decimals = len(old.partition(".")[2])
                yield *found[0].span(group), f"{value:,.{decimals}f}"


def quotient(data: Any, place: str, name: str) -> float:
    """The value at a place, or `A over B`: the value at A divided by that at B.

    name: of the record, for messages.
    """
    value, *divisors = (
        float(part) if re.fullmatch(NUMBER, part) else look_up(data, part, name)
        for part in place.split(" over ")
    )
    return value / math.prod(divisors)


def updated(text: str) -> str:
    """The text of a page with every recorded figure as its record has it."""

    def table(match: re.Match[str]) -> str:
        if match["table"] not in TABLES:
            known = ", ".join(TABLES)
            raise UserError(f"no table {match['table']!r} in docs/figure_tables.py, only {known}")
        rows = TABLES[match["table"]](*map(read_record, match["records"].split()))
        return f"{match['begin']}{rows}{match['end']}"

    text = BLOCK.sub(table, text)
    for start, end, figure in sorted(recorded(text), reverse=True):
        text = text[:start] + figure + text[end:]
    return text


def unrecorded(page: str, text: str) -> Iterator[str]:
    """Every measured figure of a page that has no record, with the number of its line.

    A measured figure is a number before a unit of time, rate, memory, decibels, percent or speed-up
    (`UNIT`), a number behind the name of a score in backticks, or a decimal fraction in a table.
    Code, links, versions and names are not read, and neither is what `NOT_MEASURED` lists.
    """
    exceptions = NOT_MEASURED.get(page, {})
    seen = _visible(text)
    for match in MEASURED.finditer(seen):
        at = match.start(match.lastgroup or 0)
        line = text[text.rfind("\n", 0, at) + 1 : text.find("\n", at)]
        if any(part in line for part in exceptions) or exceptions.keys() & _sections(seen[:at]):
            continue
        yield f"{page}:{seen.count(chr(10), 0, at) + 1}: {' '.join(match[0].split())[-60:]}"


def _sections(text: str) -> set[str]:
    """The headings of the sections in which a text ends. A title is none for what has a ##."""
    chain: list[str] = []
    for heading in re.findall(r"^#+ .*$", text, re.MULTILINE):
        level = heading.index(" ")
        chain = [*(upper for upper in chain if 1 < upper.index(" ") < level), heading]
    return set(chain)


def _visible(text: str) -> str:
    """The text without what is no prose or has a record. Every line keeps its number."""

    def blank(match: re.Match[str], mark: str = "") -> str:
        return mark + re.sub(r"[^\n]", " ", match[0])[len(mark) :]

    def code(match: re.Match[str]) -> str:
        return blank(match, "SCORE" if match[0][1:-1] in EVALUATIONS else "")

    def link(match: re.Match[str]) -> str:
        return match[1] + blank(match)[len(match[1]) :]

    for start, end, _ in sorted(recorded(text), reverse=True):
        text = f"{text[:start]}{'~' * (end - start)}{text[end:]}"
    for pattern in (BLOCK, OTHER_BLOCKS, re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)):
        text = pattern.sub(blank, text)
    text = re.sub(r"<!--.*?-->", blank, text, flags=re.DOTALL)
    text = re.sub(r"`[^`]+`", code, text)
    return re.sub(r"(\])\([^)]*\)", link, text)


def main() -> None:
    """Write the pages, and print the names of those that changed."""
    for name, path in pages().items():
        text = path.read_text(encoding="utf-8")
        try:
            new = updated(text)
        except UserError as error:
            sys.exit(f"Error: {name}: {error}")
        if new != text:
            path.write_text(new, encoding="utf-8")
            print(name)
        for figure in unrecorded(name, new):
            print(f"{figure}: no record", file=sys.stderr)


if __name__ == "__main__":
    main()
