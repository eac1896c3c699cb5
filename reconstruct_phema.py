"""Choose the length of the EMA of the weights after training (Karras et al. 2024, section 3).

The run must have been trained with `ema.posthoc`.
"""

from __future__ import annotations

import math

import click

from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.version import VERSION


def parse_lengths(text: str) -> list[float]:
    """The value of --std: '0.03,0.08' -> [0.03, 0.08]. Raises `UserError` for other lengths."""
    from training.power_profiles import LONGEST, SHORTEST

    lengths = []
    for part in text.split(","):
        try:
            length = float(part)
        except ValueError:
            length = math.nan
        if not SHORTEST <= length < LONGEST:
            raise UserError(
                f"--std {text}: expected relative lengths between {SHORTEST} and "
                f"{LONGEST:.4f}, such as 0.03,0.08"
            )
        lengths.append(length)
    return lengths


@click.command()
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--network",
    required=True,
    metavar="RUN",
    help="Folder of a run that was trained with ema.posthoc.",
)
@click.option(
    "--std",
    "lengths",
    required=True,
    metavar="A,B,...",
    help="Relative lengths sigma_rel of the wanted averages, such as 0.03,0.08.",
)
@click.option(
    "--kimg",
    type=click.IntRange(min=0),
    metavar="N",
    help="kimg at which the averages end; averages-<N>.safetensors must exist.  [default: the "
    "newest]",
)
@click.option(
    "--outdir", required=True, metavar="DIR", help="Folder of the snapshots phema-<kimg>-<length>."
)
@report_user_errors
def main(network: str, lengths: str, kimg: int | None, outdir: str) -> None:
    """Write snapshots whose weights are averages of other lengths than those that the run kept.

    generate.py and calc_metrics.py read them by --network. Buffers and the centre of truncation are
    not averaged: they come from the run's snapshot at the same kimg, or from the newest snapshot if
    that one is gone. A JSON line is printed for each length; its residual is the distance of the
    weighted averaging profiles from the wanted profile, relative to the norm of the latter. A
    length with a residual of more than 10 % is refused.

    \b
    Example:
      python reconstruct_phema.py --network runs/x --std 0.03,0.08 --outdir runs/x-phema
    """
    import json
    from pathlib import Path

    wanted = parse_lengths(lengths)

    from training.reconstruction import write_reconstructions

    for record in write_reconstructions(Path(network), wanted, kimg, Path(outdir)):
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
