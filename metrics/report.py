"""Records of several runs as one table in Markdown or LaTeX: mean and spread over seed blocks.

A cell is compared with another one only if both were measured alike. Differences are noted below
the table.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnlib.config_codec import leaves
from dnnlib.errors import UserError
from dnnlib.files import read_json_lines
from metrics.evaluations import badness, better

_ARROWS = {"low": "\u2193", "high": "\u2191", "one": "\u2192 1"}
_LATEX_ARROWS = {"low": r"$\downarrow$", "high": r"$\uparrow$", "one": r"$\rightarrow 1$"}
_PLUS_MINUS, _LATEX_PLUS_MINUS = " \u00b1 ", r" \pm "


@dataclass(frozen=True)
class Cell:
    """One run under one evaluation: mean over seed blocks, their deviation (ddof 1), conditions."""

    mean: float
    spread: float | None
    num_blocks: int
    conditions: Mapping[str, Any]


Table = dict[str, dict[str, Cell]]


def read_runs(paths: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Records by label, of a .jsonl file or of all .jsonl files in a run folder, oldest file first.

    The label is the name of the folder, or of the file without .jsonl. NAME=PATH gives another
    label, and paths with one NAME are one run. Raises `UserError` for paths without records, for
    records with a value of a wrong type, for a label that two paths have and no NAME gave, and for
    paths with one NAME and scores of two networks.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    firsts: dict[str, str] = {}  # by label: the first argument
    for text in paths:
        label, path, is_named = _labelled(text)
        first = firsts.setdefault(label, text)
        _, first_path, first_is_named = _labelled(first)
        if label in runs and not (is_named and first_is_named):
            raise UserError(
                f"{first} and {text} would share the row {label}; tell them apart as NAME=PATH, "
                "or give both the same NAME if they are seed blocks of one run"
            )
        files = [path]
        if path.is_dir():
            files = sorted(path.glob("*.jsonl"), key=lambda file: (file.stat().st_mtime, file.name))
        if not path.exists():
            raise UserError(f"{text} does not exist; give a run folder, or what calc --out wrote")
        records = [
            record
            for file in files
            for record in read_json_lines(file, _fault)
            if "metric" in record and "value" in record
        ]
        if not records:
            raise UserError(f"{path} holds no records of calc_metrics.py")
        known = runs.setdefault(label, [])
        newest = {found[-1].get("snapshot_sha256") for found in (known, records) if found}
        if len(newest - {None}) > 1 or (known and path.is_dir() and first_path.is_dir()):
            raise UserError(
                f"{text}: holds scores of another network than the paths before it of the row "
                f"{label}; give it another NAME"
            )
        known.extend(records)
    return runs


def _labelled(text: str) -> tuple[str, Path, bool]:
    """(label, path, whether the user gave the label) of [NAME=]PATH.

    A path that exists is not split at its "=".
    """
    name, separator, rest = text.partition("=")
    if separator and not os.path.lexists(text):
        return name, Path(rest), True
    return os.path.basename(os.path.abspath(text)).removesuffix(".jsonl"), Path(text), False


_TYPES: dict[str, tuple[type, ...]] = {
    "metric": (str,),
    "value": (int, float, type(None)),
    "num_generated": (int,),
    "seed": (int, type(None)),
    "versions": (dict,),
    "overrides": (dict,),
    "protocol": (dict,),
    "dataset": (dict, type(None)),
    "reference_file": (dict, type(None)),
    "data_large": (dict, type(None)),
}


def _fault(record: dict[str, Any]) -> str | None:
    """The first field of a score whose value has a wrong type, or None."""
    if "metric" not in record or "value" not in record:
        return None
    for name, kinds in _TYPES.items():
        value = record.get(name)
        if name in record and (isinstance(value, bool) or not isinstance(value, kinds)):
            return f"field {name!r} cannot be {repr(value)[:40]}"
    return None


def tabulate(runs: Mapping[str, Sequence[dict[str, Any]]], metrics: Sequence[str] = ()) -> Table:
    """Cells by label and evaluation.

    A cell has the score of the most generated pictures, the last of several with as many, and the
    scores of the other seed blocks of the same network. Raises `UserError` if no run has a score of
    one of `metrics`, or any score.
    """
    table: Table = {}
    for label, records in runs.items():
        of_metric: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            if not metrics or record["metric"] in metrics:
                of_metric.setdefault(record["metric"], []).append(record)
        blocks = {metric: _seed_blocks(found) for metric, found in of_metric.items()}
        table[label] = {
            metric: _cell(label, metric, found) for metric, found in blocks.items() if found
        }
    missing = [name for name in metrics if name not in columns(table)]
    if missing or not columns(table):
        scores = [r["metric"] for found in runs.values() for r in found if r["value"] is not None]
        held = ", ".join(dict.fromkeys(scores)) or "no score"
        what = f"--metrics {', '.join(missing)}: " if missing else ""
        raise UserError(f"{what}{', '.join(runs)} hold {held}; name one of these, or run calc")
    return table


def _seed_blocks(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of one evaluation that a cell is made of, one for each seed block.

    The list is empty if the newest network has no score, because its pictures were not finite.
    """
    blocks: dict[tuple, dict[str, Any]] = {}
    for record in records:
        images = record.get("images")
        pictures = images.get("content_hash") if isinstance(images, dict) else None
        block = (_network(record), record.get("seed"), pictures)
        if _count(record) >= _count(blocks.get(block, record)):
            blocks.pop(block, None)  # the last one comes last
            blocks[block] = record
    newest = max(reversed(blocks.values()), key=_count)  # of equals the last
    return [
        record
        for record in blocks.values()
        if _network(record) == _network(newest) and newest["value"] is not None
        if record["value"] is not None
    ]


def _count(record: dict[str, Any]) -> int:
    return record.get("num_generated", 0)


def _network(record: dict[str, Any]) -> tuple:
    """The snapshot of a record, and the images that a training had seen where it made the record.

    Both are None for a folder of pictures of an unknown network.
    """
    images = record.get("images")
    return record.get("snapshot_sha256"), images if isinstance(images, int) else None


def differences(table: Table) -> dict[tuple[str, str], str]:
    """One line for each cell whose conditions differ from those of the first cell in its column.

    Lines are sorted by (label, evaluation). A line names the conditions with both values, the one
    of the first cell last.
    """
    lines = {}
    for metric in columns(table):
        cells = {label: row[metric] for label, row in table.items() if metric in row}
        first_label, first = next(iter(cells.items()))
        for label, cell in cells.items():
            unequal = _unequal(cell.conditions, first.conditions)
            if unequal:
                lines[label, metric] = (
                    f"{metric}: {label} differs from {first_label} in "
                    f"{', '.join(unequal)}; these numbers do not compare"
                )
    return lines


def markdown(table: Table) -> str:
    """A pipe table. The best of each column is bold; `(n)` is the number of seed blocks.

    Columns that were not measured alike have no best; `[k]` refers to a note below the table.
    """
    names = columns(table)
    notes = differences(table)
    marks = {cell: f" [{number}]" for number, cell in enumerate(notes, start=1)}
    best = {metric: _best(table, metric) for metric in names}
    heads = [f"{name} {_ARROWS[better(name)]}" for name in names]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(names) + 1) + "|"]
    for label, row in table.items():
        cells = []
        for metric in names:
            text = _text(row[metric], _PLUS_MINUS) if metric in row else "-"
            blocks = (
                f" ({row[metric].num_blocks})"
                if metric in row and row[metric].num_blocks > 1
                else ""
            )
            mark = marks.get((label, metric), "")
            cells.append((f"**{text}**" if label in best[metric] else text) + blocks + mark)
        lines.append(" | ".join(["| " + label.replace("|", r"\|"), *cells]) + " |")
    for number, note in enumerate(notes.values(), start=1):
        lines += ["", f"[{number}] {note}"]
    return "\n".join(lines)


def latex(table: Table) -> str:
    """A booktabs tabular with the same content."""
    names = columns(table)
    notes = differences(table)
    marks = {cell: f"$^{{{number}}}$" for number, cell in enumerate(notes, start=1)}
    best = {metric: _best(table, metric) for metric in names}
    arrows = [f"{_escape(name)} {_LATEX_ARROWS[better(name)]}" for name in names]
    lines = [
        r"\begin{tabular}{l" + "r" * len(names) + "}",
        r"\toprule",
        " & ".join(["", *arrows]) + r" \\",
        r"\midrule",
    ]
    for label, row in table.items():
        cells = []
        for metric in names:
            text = f"${_text(row[metric], _LATEX_PLUS_MINUS)}$" if metric in row else "--"
            text = rf"\boldmath{text}" if label in best[metric] and metric in row else text
            cells.append(text + marks.get((label, metric), ""))
        lines.append(" & ".join([_escape(label), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    for number, note in enumerate(notes.values(), start=1):
        lines += ["", f"$^{{{number}}}$ {_escape(note)}"]
    return "\n".join(lines)


def columns(table: Table) -> list[str]:
    """Evaluations in the order in which they first appear."""
    return list(dict.fromkeys(metric for row in table.values() for metric in row))


def _cell(label: str, metric: str, records: list[dict[str, Any]]) -> Cell:
    first = _conditions(records[0])
    for record in records[1:]:
        fields = _unequal(first, _conditions(record))
        if fields:
            raise UserError(
                f"{label}: the seed blocks of {metric} differ in {', '.join(fields)}; compare them "
                "as runs of their own (NAME=FILE)"
            )
    values = [record["value"] for record in records]
    return Cell(
        statistics.fmean(values),
        statistics.stdev(values) if len(values) > 1 else None,
        len(values),
        first,
    )


# These fields of a record say what was found, whose pictures these are, or on which device they
# were scored, which moves the last bits only. All other fields are conditions.
_RESULTS = frozenset(
    (
        "metric",
        "value",
        "note",
        "spread",
        "worst",
        "recall",
        "coverage",
        "enlarged",
        "shuffled",
        "real",
        "prime",
        "generated",
        "psnr",
        "ssim",
        "ms_ssim",
        "lpips",
        "lpips_note",
        "lpips_weights_sha256",
        "chance",
        "whole",
        "window",
        "extrapolated",
        "seed",
        "images",
        "snapshot_sha256",
        "text_encoder",
        "device",
        "seconds",
        "drawn",
        "parts",
    )
)


def _conditions(record: dict[str, Any]) -> dict[str, Any]:
    """Everything that must agree if two numbers are compared, by dotted name.

    These are all fields but those of `_RESULTS`, so a new field is a condition until it is listed
    there. The number of pictures is compared by `num_generated` alone.
    """
    kept = {name: value for name, value in record.items() if name not in _RESULTS}
    kept["versions"] = {"protocols": record.get("versions", {}).get("protocols")}
    kept["overrides"] = {
        name: value
        for name, value in record.get("overrides", {}).items()
        if name not in ("seed", "num_images")
    }
    protocol = kept.pop("protocol", {})
    kept["protocol"] = {name: protocol.get(name) for name in ("measure", "reference")}
    for name in ("dataset", "reference_file", "data_large"):  # by content, where that is known
        about = dict(kept.pop(name, None) or {})
        if "content_hash" in about or "sha256" in about:
            about.pop("name", None)
        kept[name] = about
    folder = record.get("images")
    if isinstance(folder, dict) and "drawn" not in record:  # of an earlier version
        kept["the first pictures in path order"] = folder.get("num_files") != record.get(
            "num_generated"
        )
    return leaves(kept)


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """'name (value in a, value in b)' of each condition that differs; None if it is absent."""
    return [
        f"{name} ({_short(a.get(name))}, {_short(b.get(name))})"
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name)
    ]


def _short(value: Any) -> str:
    """A hash by its first 12 digits."""
    text = value if isinstance(value, str) else repr(value)
    return text[:12] if len(text) == 64 else text


def _best(table: Table, metric: str) -> set[str]:
    means = {label: row[metric].mean for label, row in table.items() if metric in row}
    if len(means) < 2 or any(metric == column for _, column in differences(table)):
        return set()
    distances = {label: badness(metric, mean) for label, mean in means.items()}
    least = min(distances.values())
    return {label for label, distance in distances.items() if distance == least}


def _text(cell: Cell, separator: str) -> str:
    spread = "" if cell.spread is None else f"{separator}{cell.spread:.2g}"
    return f"{cell.mean:.4g}{spread}"


def _escape(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")
