"""Draw the learning curves of the trained networks as trained-curves.svg, from their records.

python docs/pictures/make_curves.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.comparison import IS_CURVES, curves_svg
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import read_json, write_text

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
RECORDS = ("2026-11-27-curve-flowers64.json", "2026-11-26-curve-openmoji64.json")


@click.command()
@click.option(
    "--metric", default="kid_lite2", show_default=True, help="One of the metrics of the records."
)
@report_user_errors
def main(metric: str) -> None:
    """Write trained-curves.svg beside this file."""
    curves = {}
    for name in RECORDS:
        record = read_json(RESULTS / name)
        if metric not in record["metrics"].split(","):
            raise UserError(f"{name} has no {metric}, but {record['metrics']}")
        points = [(row["kimg"], row["scores"].get(metric)) for row in record["rows"]]
        curves[record["data"]] = [[point for point in points if point[1] is not None]]
    path = Path(__file__).with_name("trained-curves.svg")
    write_text(path, curves_svg(curves, metric), ours=IS_CURVES)


if __name__ == "__main__":
    main()
