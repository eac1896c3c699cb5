"""Result records of several runs as one table: mean and spread over seed blocks, in Markdown or LaTeX.

A cell stands beside another only where both were measured alike; what differs is said, never averaged away.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.files import read_json_lines
from metrics.protocols import lower_is_better

_DOWN, _UP, _PLUS_MINUS, _LATEX_PLUS_MINUS = "\u2193", "\u2191", " \u00b1 ", r" \pm "


@dataclass(frozen=True)
class Cell:
    """One run under one protocol: the mean over its seed blocks, their deviation (ddof 1), and what was measured how."""

    mean: float
    spread: float | None
    num_blocks: int
    conditions: Mapping[str, Any]


Table = dict[str, dict[str, Cell]]


def read_runs(paths: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Records by label: of a .jsonl file, or of all .jsonl files in a run folder. NAME=PATH gives another label.

    Raises `UserError` for paths without records.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    for text in paths:
        label, separator, rest = text.partition("=")
        path = Path(rest if separator else text)
        files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not path.exists():
            raise UserError(f"{path} does not exist; give a run folder, or what calc --out wrote")
        records = [record for file in files for record in read_json_lines(file) if "metric" in record and "value" in record]
        if not records:
            raise UserError(f"{path} holds no records of calc_metrics.py")
        runs.setdefault(label if separator else path.stem, []).extend(records)
    return runs


def tabulate(runs: Mapping[str, Sequence[dict[str, Any]]], metrics: Sequence[str] = ()) -> Table:
    """Cells by label and protocol. Of several records of one seed block the last counts, so a run shows its newest."""
    table: Table = {}
    for label, records in runs.items():
        blocks: dict[str, dict[Any, dict[str, Any]]] = {}
        for record in records:
            if record["value"] is not None and (not metrics or record["metric"] in metrics):
                blocks.setdefault(record["metric"], {})[record.get("seed")] = record
        table[label] = {metric: _cell(label, metric, list(by_seed.values())) for metric, by_seed in blocks.items()}
    return table


def differences(table: Table) -> list[str]:
    """A line for each protocol that was not measured alike in all rows, naming the fields and the labels."""
    lines = []
    for metric in columns(table):
        cells = {label: row[metric] for label, row in table.items() if metric in row}
        first_label, first = next(iter(cells.items()))
        for label, cell in cells.items():
            fields = _unequal(first.conditions, cell.conditions)
            if fields:
                lines.append(f"{metric}: {label} differs from {first_label} in {', '.join(fields)}; these numbers do not compare")
    return lines


def markdown(table: Table) -> str:
    """A pipe table; the best of each column is bold, `(n)` is the number of seed blocks where there are several."""
    names = columns(table)
    best = {metric: _best(table, metric) for metric in names}
    lines = ["| | " + " | ".join(f"{name} {_DOWN if lower_is_better(name) else _UP}" for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, row in table.items():
        cells = []
        for metric in names:
            text = _text(row[metric], _PLUS_MINUS) if metric in row else "-"
            blocks = f" ({row[metric].num_blocks})" if metric in row and row[metric].num_blocks > 1 else ""
            cells.append((f"**{text}**" if label in best[metric] else text) + blocks)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def latex(table: Table) -> str:
    """A booktabs tabular with the same content."""
    names = columns(table)
    best = {metric: _best(table, metric) for metric in names}
    arrows = [f"{_escape(name)} $\\{'down' if lower_is_better(name) else 'up'}arrow$" for name in names]
    lines = [r"\begin{tabular}{l" + "r" * len(names) + "}", r"\toprule", " & ".join(["", *arrows]) + r" \\", r"\midrule"]
    for label, row in table.items():
        cells = []
        for metric in names:
            text = f"${_text(row[metric], _LATEX_PLUS_MINUS)}$" if metric in row else "--"
            cells.append(rf"\boldmath{text}" if label in best[metric] and metric in row else text)
        lines.append(" & ".join([_escape(label), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def columns(table: Table) -> list[str]:
    """Protocols in the order in which they first appear."""
    return list(dict.fromkeys(metric for row in table.values() for metric in row))


def _cell(label: str, metric: str, records: list[dict[str, Any]]) -> Cell:
    first = _conditions(records[0])
    for record in records[1:]:
        fields = _unequal(first, _conditions(record))
        if fields:
            raise UserError(f"{label}: the seed blocks of {metric} differ in {', '.join(fields)}; compare them as runs of "
                            "their own (NAME=FILE)")
    values = [record["value"] for record in records]
    return Cell(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values), first)


def _conditions(record: dict[str, Any]) -> dict[str, Any]:
    """Everything that must agree for two numbers to stand side by side."""
    overrides = {key: value for key, value in record.get("overrides", {}).items() if key not in ("seed", "num_images")}
    return {"num_generated": record.get("num_generated"), "num_real": record.get("num_real"), "split": record.get("split"),
            "resize": record.get("resize"), "detector": record.get("detector"), "overrides": overrides,
            "dataset": (record.get("dataset") or {}).get("content_hash"),
            "reference_file": (record.get("reference_file") or {}).get("sha256"),
            "protocols version": record.get("versions", {}).get("protocols")}


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [field for field in a if a[field] != b[field]]


def _best(table: Table, metric: str) -> set[str]:
    means = {label: row[metric].mean for label, row in table.items() if metric in row}
    if len(means) < 2:
        return set()
    top = min(means.values()) if lower_is_better(metric) else max(means.values())
    return {label for label, mean in means.items() if mean == top}


def _text(cell: Cell, separator: str) -> str:
    spread = "" if cell.spread is None else f"{separator}{cell.spread:.2g}"
    return f"{cell.mean:.4g}{spread}"


def _escape(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")
