"""`make demo`: train on real pictures without any download, draw and score.

It can be interrupted at any time; the next call goes on where it stopped.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from dnnlib.console import format_time
from dnnlib.files import write_text
from dnnlib.ownership import in_our_folder
from dnnlib.version import VERSION

DATA, RUN = Path("data/openmoji32.zip"), Path("runs/demo")
PROMPTS = (
    "a yellow icon of a smiling face",
    "a red and white flag",
    "a red apple",
    "a green icon of a leaf",
    "a brown icon of a bear",
    "a light blue icon of a fish",
    "a red heart",
    "a black and white clock",
)
SIZES = ("32x32", "256x256", "1000x600")
METRICS = "kid_lite2,clip_s_small,clip_s_small_heldout,clip_r_small,scale_x2,tile_exact"


def run(*command: str) -> str:
    """Run a command with this interpreter and return its stdout.

    The command is printed as a user would type it.
    """
    print("\n$ python " + shlex.join(command), flush=True)
    done = subprocess.run(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def stream(*command: str, hint: str = "") -> None:
    """The same for a command whose output the user watches; `hint` follows an error of its own."""
    print("\n$ python " + shlex.join(command), flush=True)
    code = subprocess.run([sys.executable, *command], check=False).returncode
    if code == 1 and hint:
        print(hint, file=sys.stderr)
    if code:
        sys.exit(code)


def score(network: Path, metrics: str, out: str) -> dict[str, dict]:
    lines = run(
        "calc_metrics.py",
        "calc",
        "--network",
        str(network),
        "--data",
        str(DATA),
        "--metrics",
        metrics,
        "--num-images",
        "1000",
    )
    write_text(RUN / out, lines, ours=in_our_folder)
    return {record["metric"]: record for record in map(json.loads, lines.splitlines())}


@click.command(context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
def main() -> None:
    """Train on OpenMoji without any download, draw pictures at three sizes, and score them.

    Everything is in data/openmoji32.zip and runs/demo. Interrupt it at any time; the next call goes
    on where it stopped.
    """
    # Ctrl-C reaches the running command too. It saves and leaves; then the demo leaves with the
    # exit code of that command.
    signal.signal(signal.SIGINT, lambda *_: None)
    started = time.monotonic()
    if not DATA.exists():
        stream("dataset_tool.py", "openmoji", "--dest", str(DATA), "--resolution", "32x32")
    stream(
        "train.py",
        "--outdir",
        str(RUN),
        "--recipe",
        "eidgan-openmoji32",
        "--data",
        str(DATA),
        hint=f"If the recipe or the data has changed since {RUN} was made: `make clean-demo`, then "
        "`make demo` starts afresh.",
    )
    prompts = [word for prompt in PROMPTS for word in ("--prompts", prompt)]
    for size in SIZES:
        seeds = "0-7" if size != "1000x600" else "0"
        run(
            "generate.py",
            "--network",
            str(RUN),
            *prompts,
            "--seeds",
            seeds,
            "--size",
            size,
            "--grid",
            "--outdir",
            str(RUN / "pictures" / size),
        )
    trained = score(RUN, METRICS, "scores.jsonl")
    untrained = score(
        RUN / "network-snapshot-000000", "kid_lite2,clip_s_small_heldout", "scores-untrained.jsonl"
    )
    report(trained, untrained, time.monotonic() - started)


def report(trained: dict[str, dict], untrained: dict[str, dict], seconds: float) -> None:
    kid, kid_before = trained["kid_lite2"]["value"], untrained["kid_lite2"]["value"]
    held = trained["clip_s_small_heldout"]
    scale = trained["scale_x2"]["psnr"]
    print(f"\nDone in {format_time(seconds)}.\n")
    print(f"Pictures    {RUN}/pictures/*/grid.png, {RUN}/reals.png, {RUN}/fakes*.png")
    print(
        f"Scores      {RUN}/scores.jsonl, {RUN}/scores-untrained.jsonl; training curve "
        f"{RUN}/stats.jsonl\n"
    )
    print(
        f"kid_lite2             {kid:8.4f}   untrained {kid_before:.4f}: "
        f"{kid / kid_before:.2f} of it   (lower is better)"
    )
    print(
        f"clip_s_small_heldout  {held['value']:8.4f}   with shuffled prompts "
        f"{held['shuffled']:.4f}   (higher is better)"
    )
    print(
        f"clip_s_small          {trained['clip_s_small']['value']:8.4f}   "
        "its encoder conditions the generator"
    )
    print(
        f"clip_r_small          {trained['clip_r_small']['value']:8.4f}   "
        f"real pictures {trained['clip_r_small']['real']:.4f}, "
        f"chance {trained['clip_r_small']['chance']:.4f}"
    )
    print(
        f"scale_x2              {scale['centers']:8.2f}   "
        f"dB PSNR; with end-point coordinates {scale['endpoints']:.2f}"
    )
    print(
        f"tile_exact            {trained['tile_exact']['value']:8.1e}   "
        "largest difference of a tile from the whole"
    )
    print(f"\nTo pan and zoom in its pictures: python explore.py --network {RUN}, or make explore")


if __name__ == "__main__":
    main()
