"""The options of commands that draw pictures: `--trunc`, `--trunc-center`, `--text-noise`,
`--samples` and `--tile`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from dnnlib.errors import UserError
from dnnlib.number_options import FiniteFloat

SAMPLES = click.option(
    "--samples",
    type=click.IntRange(1, 16),
    metavar="N",
    help="Each pixel is the mean of N x N points: 2 makes edges smooth, at four times the cost.  "
    "[default: the network's value]",
)
_OPTIONS = (
    click.option(
        "--trunc",
        default=1.0,
        show_default=True,
        help="Truncation psi; values below 1 give more typical and less varied pictures.",
    ),
    click.option(
        "--trunc-center",
        type=click.Choice(["prompt", "global"]),
        default="prompt",
        show_default=True,
        help="Truncate towards the mean of the same prompt, or towards the mean of all training.",
    ),
    click.option(
        "--text-noise",
        type=FiniteFloat(min=0),
        metavar="F",
        help="Noise on the sentence feature, relative to its length; more noise gives more varied "
        "pictures of a prompt.  [default: the network's value]",
    ),
    SAMPLES,
    click.option(
        "--tile",
        type=click.IntRange(min=1),
        help="Maximum number of pixels that are rendered at once; bounds memory and does not "
        "change the pictures.  [default: by device]",
    ),
)


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: add the options to a click command, which receives their values by name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_center(trunc: float) -> None:
    """Raise `UserError` if the command line has `--trunc-center` and no truncation."""
    source = click.get_current_context().get_parameter_source("trunc_center")
    if trunc == 1 and source is ParameterSource.COMMANDLINE:
        raise UserError("--trunc-center: has no effect with --trunc 1; add --trunc 0.7")
