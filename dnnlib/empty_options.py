"""Refuses an empty value of a command-line option, such as that of `--out "$OUT"` in a shell that
does not know OUT. It would pass for an option that is not given, or for the current folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dnnlib.errors import UserError


class GivenPath(click.Path):
    """`click.Path` as a `Path`, which has no empty value: that would be the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("is empty; give a path", param, ctx)
        return super().convert(value, param, ctx)


def refuse_empty_options() -> None:
    """Raises `UserError` for an option of the running command that was given an empty text."""
    context = click.get_current_context(silent=True)
    if context is None:
        return
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and context.params.get(name) == "":
            raise UserError(f"{option.opts[0]}: is empty; give it a value, or leave it out")
