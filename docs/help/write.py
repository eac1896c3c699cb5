"""Write docs/help/*.txt: what `--help` prints, for every command and subcommand.

`--print MODULE` shows the text of one module instead.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
MODULES = (
    "train",
    "generate",
    "calc_metrics",
    "dataset_tool",
    "doctor",
    "networks.describe",
    "training.dual_encoder",
    "reconstruct_phema",
    "export",
    "project",
    "fit_lines",
    "explore",
    "demo",
)


def page(module: str) -> str:
    """The help of a command, followed by that of its subcommands."""
    command = importlib.import_module(module).main
    name = f"python -m {module}" if "." in module else f"python {module}.py"
    context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100)
    parts = [command.get_help(context)]
    for sub in getattr(command, "commands", {}).values():
        inner = click.Context(sub, info_name=sub.name, parent=context, terminal_width=100)
        parts.append(sub.get_help(inner))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["--print"]:
        sys.stdout.write(page(sys.argv[2]))
        return
    for module in MODULES:
        target = Path(__file__).with_name(module.replace(".", "-").replace("_", "-") + ".txt")
        target.write_text(page(module), encoding="utf-8")
        print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
