"""Show the pictures of a network as a map: type a prompt, pan and zoom in the browser."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from dnnlib.console import report_user_errors
from dnnlib.device_options import device_option, ops_option
from dnnlib.errors import UserError
from dnnlib.version import VERSION
from networks.shipped_networks import NETWORK_HELP


@click.command(context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--network",
    metavar="PATH",
    help=f"The network that the page opens with. {NETWORK_HELP}  [default: the newest of --runs]",
)
@click.option(
    "--runs",
    default="runs",
    show_default=True,
    metavar="DIR",
    help="Folder of runs. The page offers all their snapshots and shows their training.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. On another one than 127.0.0.1, the link holds a token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@device_option
@ops_option
@report_user_errors
def main(network: str | None, runs: str, host: str, port: int, device: str, ops: str) -> None:
    """Show the pictures of a network as a map without edges, in the browser.

    \b
    Examples:
      python explore.py --network runs/demo
      ssh -L 8000:localhost:8000 SERVER    then open http://localhost:8000 here
    """
    is_default = click.get_current_context().get_parameter_source("runs") is ParameterSource.DEFAULT
    if not is_default and not Path(runs).is_dir():
        raise UserError(f"--runs {runs}: is no folder; name an existing one, or leave --runs out")

    from explorer.serving import serve

    serve(network, runs, host, port, device, ops)


if __name__ == "__main__":
    main()
