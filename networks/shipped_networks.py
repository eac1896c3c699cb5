"""The trained networks that come with this repository, found by name.

Each is a snapshot folder in `networks/shipped/` with weights in float16. `--network flowers64` and
`Snapshot.from_pretrained("flowers64")` take its name, unless a path of this name exists.
"""

from __future__ import annotations

from pathlib import Path

import click

from dnnlib.files import read_json

FOLDER = Path(__file__).with_name("shipped")


def shipped_networks() -> dict[str, Path]:
    """The snapshot folders by name."""
    return {path.parent.name: path.parent for path in sorted(FOLDER.glob("*/config.json"))}


NETWORK_HELP = (
    "Snapshot folder, run folder (its newest snapshot), user/name on the Hugging Face Hub, or a "
    f"network of this repository: {', '.join(shipped_networks())}."
)


def _print_networks(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    networks = shipped_networks()
    width = max(map(len, networks), default=0)
    for name, folder in networks.items():
        config = read_json(folder / "config.json")
        info, side = config["info"], config["resolution"]
        click.echo(f"{name:<{width}} {info['recipe']}, {side} x {side}, {info['kimg']:g} kimg")
    context.exit()


list_networks_option = click.option(
    "--list-networks",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_networks,
    help="Print the networks that come with this repository, and exit.",
)
