"""Write the cost table of every recipe into docs/configs.md.

All figures are counted from the networks.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
PAGE, START, END = (
    ROOT / "docs" / "configs.md",
    "<!-- costs: docs/cost_table.py -->\n",
    "<!-- end of costs -->\n",
)
TERMS = (
    ("r1_gamma", "R1"),
    ("mismatch", "mismatch"),
    ("cond", "ConD"),
    ("cong", "ConG"),
    ("path_length", "path length"),
    ("imle", "IMLE"),
    ("teacher", "teacher"),
    ("style_mixing", "style mixing"),
)


def row(name: str) -> str:
    import torch

    from configs import recipe
    from networks.coordinates import View
    from networks.describe import describe

    config = recipe(name)
    widths = {"small": (256, 384), "hashed": (64, 64)}.get(config.text_encoder, (512, 512))
    config = config.for_encoder(*widths)
    counts = describe(config.generator, View.square(config.resolution))
    with torch.device("meta"):
        judge = sum(p.numel() for p in config.discriminator.build().parameters())
    terms = ["hinge instead"] * (config.loss.adversarial == "hinge")
    terms += [
        f"{label} {getattr(config.loss, field):g}"
        for field, label in TERMS
        if getattr(config.loss, field)
    ]
    return (
        f"| `{name}` | {counts['params'] / 1e6:.2f} M | {counts['macs'] / 1e9:.2f} | "
        f"{counts['activation_bytes'] / 2**20:.0f} | "
        f"{config.discriminator.kind} {judge / 1e6:.2f} M | {config.batch} | {config.kimg:g} | "
        f"{', '.join(terms) or 'BCE'} |"
    )


def costs() -> str:
    from configs import RECIPES

    head = [
        "| Recipe | G | GMAC | Activations, MiB | D | Batch | kimg | "
        "Terms beside the logistic loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(row, RECIPES), ""])


def updated(text: str) -> str:
    before, rest = text.split(START)
    return before + START + costs() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)
