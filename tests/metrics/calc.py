"""calc_metrics.py in the process of the test."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

import calc_metrics


def run(*arguments: object) -> Result:
    """`calc_metrics.py` with these words."""
    return CliRunner().invoke(calc_metrics.main, list(map(str, arguments)))


def calc(*arguments: object) -> Result:
    """`calc_metrics.py calc` on the CPU."""
    return run("calc", "--device", "cpu", *arguments)


def records_of(result: Result) -> dict[str, dict[str, Any]]:
    """The records that a command printed, by the names of their metrics."""
    assert result.exit_code == 0, result.stderr
    return {record["metric"]: record for record in map(json.loads, result.stdout.splitlines())}
