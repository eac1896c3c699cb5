"""Run dataset_tool.py in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

import dataset_tool


def run(*arguments: object) -> Result:
    """Run dataset_tool.py with these arguments. Exceptions other than SystemExit fail the test."""
    result = CliRunner().invoke(dataset_tool.main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
