"""The options of commands that run networks: `--device` and `--ops`."""

from __future__ import annotations

import click

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cpu, cuda, cuda:N or mps.",
)
ops_option = click.option(
    "--ops",
    type=click.Choice(["auto", "cuda", "ref"]),
    default="auto",
    show_default=True,
    help="Operators: CUDA kernels, plain PyTorch (ref), or CUDA kernels where they run (auto).",
)
