"""Start the server: the socket, the link that is printed, and how the process leaves."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path
from types import FrameType

import click
import uvicorn

from dnnlib.errors import UserError, reason_of
from explorer.catalog import Catalog
from explorer.guard import Guard, is_local
from explorer.painter import Painter
from explorer.sending import PatientProtocol
from explorer.server import Explorer
from torch_utils.distributed import resolve_device
from torch_utils.local_ranks import use_one_thread
from torch_utils.ops import check_backend

MAX_CONNECTIONS = 256
BACKLOG = 128  # connections that wait to be taken


def serve(network: str | None, runs: str, host: str, port: int, device: str, ops: str) -> None:
    """Serve until Ctrl-C, which ends the process. The arguments are those of explore.py.

    Raises `UserError` for an address that is taken, and where no network is found.
    """
    catalog = Catalog(Path(runs), network)
    torch_device = resolve_device(device)
    use_one_thread()
    check_backend(ops, torch_device)
    more = {"--device": device} if device != "auto" else {}
    more |= {"--ops": ops} if ops != "auto" else {}
    explorer = Explorer(catalog, Painter(torch_device), more)
    with listening(host, port) as listener:
        port = listener.getsockname()[1]
        token = None if is_local(host) else secrets.token_urlsafe(24)
        server = Server(settings(explorer, token, port))
        explorer.warm()
        click.echo(
            f"{len(catalog.networks())} networks, on {torch_device}. Open {link(host, port, token)}"
        )
        click.echo("Ctrl-C ends the explorer.")
        sys.stdout.flush()
        server.run(sockets=[listener])


class Server(uvicorn.Server):
    """A server that leaves at once on Ctrl-C and SIGTERM: nothing here has to be saved."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A normal exit would wait for answers, and for what PyTorch computes in other threads.
        os._exit(0)


def settings(explorer: Explorer, token: str | None, port: int) -> uvicorn.Config:
    """The server's bounds: connections, idle time, patience and size of a request's head."""
    return uvicorn.Config(
        Guard(explorer.app(), token, f"explorer-{port}"),
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        http=PatientProtocol,
        limit_concurrency=MAX_CONNECTIONS,
        backlog=BACKLOG,
        timeout_keep_alive=10,
        h11_max_incomplete_event_size=16 << 10,
    )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `UserError` where it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name such as a..b
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({reason_of(error)}); "
            "choose another --port, 0 for a free one, or another --host"
        ) from None


def link(host: str, port: int, token: str | None) -> str:
    """The address to open in a browser."""
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{shown}]" if ":" in shown else shown
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")
