"""`make demo`: draw with a trained network, then train one on real pictures, draw and score.

Nothing is downloaded. It can be interrupted at any time; the next call goes on where it stopped.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from dnnlib.console import format_time
from dnnlib.files import write_json, write_text
from dnnlib.ownership import in_our_folder
from dnnlib.version import VERSION

DATA, RUN = Path("data/openmoji32.zip"), Path("runs/demo")
# The network of this repository that the demo draws with, and the folder of its pictures.
SHIPPED, SHIPPED_PICTURES = "flowers128", Path("runs/demo-flowers")
FLOWERS = (
    "a pink flower with a yellow center and pointed petals",
    "this flower has purple petals with a yellow center",
    "the petals are white and the center is yellow",
    "an orange flower with a dark center",
)
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
RECIPE = "eidgan-openmoji32"
# The training takes about ten minutes on two cores. A CPU that is slow in bf16 takes three times as
# long for an image, so the training there has this length in place of the recipe's.
KIMG_WITHOUT_BF16 = 24.0
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
    """The same for a command whose output the user watches. `hint` is printed after its error."""
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


def show_shipped() -> None:
    """Draw with the network of this repository: a grid, and a picture wider than the frame."""
    started = time.monotonic()
    network = ("generate.py", "--network", SHIPPED)
    prompts = [word for prompt in FLOWERS for word in ("--prompts", prompt)]
    grid, wide = SHIPPED_PICTURES / "grid", SHIPPED_PICTURES / "wide"
    size = ("--size", "128x128")
    run(*network, *prompts, "--seeds", "0-3", *size, "--grid", "--outdir", str(grid))
    window = ("--window", "-0.75,0,1.75,1", "--size", "1000x400")
    run(*network, *prompts[:2], *window, "--outdir", str(wide))
    took = format_time(time.monotonic() - started)
    print(
        f"\nThe trained network {SHIPPED} drew these in {took}:\n"
        f"  {grid}/grid.png  {len(FLOWERS)} prompts with 4 seeds each\n"
        f"  {wide}/*.png  one frame, and three quarters of a frame on each side of it\n"
        f"More of them: python explore.py --network {SHIPPED}\n"
        "Next, a network of icons is trained from nothing.",
        flush=True,
    )


@click.command(context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
def main() -> None:
    """Draw with a trained network, then train one on OpenMoji, draw at three sizes, and score.

    Nothing is downloaded. The first pictures are in runs/demo-flowers after seconds. All the rest
    is in data/openmoji32.zip and runs/demo. Interrupt it at any time; the next call goes on where
    it stopped.
    """
    # Ctrl-C reaches the running command too. It saves and leaves; then the demo leaves with the
    # exit code of that command.
    signal.signal(signal.SIGINT, lambda *_: None)
    started, is_new = time.monotonic(), not RUN.exists()
    show_shipped()
    if not DATA.exists():
        stream("dataset_tool.py", "openmoji", "--dest", str(DATA), "--resolution", "32x32")
    before_training, length = time.monotonic(), training_kimg()
    stream(
        "train.py",
        "--outdir",
        str(RUN),
        "--recipe",
        RECIPE,
        "--data",
        str(DATA),
        "--kimg",
        f"{length:g}",
        hint=f"If the recipe or the data has changed since {RUN} was made: `make clean-demo`, then "
        "`make demo` starts afresh.",
    )
    training_seconds = time.monotonic() - before_training
    prompts = [word for prompt in PROMPTS for word in ("--prompts", prompt)]
    for size in SIZES:
        seeds, window = ("0", "5:3") if size == "1000x600" else ("0-7", "1:1")
        run(
            "generate.py",
            "--network",
            str(RUN),
            *prompts,
            "--seeds",
            seeds,
            "--size",
            size,
            "--window",
            window,
            "--grid",
            "--outdir",
            str(RUN / "pictures" / size),
        )
    trained = score(RUN, METRICS, "scores.jsonl")
    untrained = score(
        RUN / "network-snapshot-000000", "kid_lite2,clip_s_small_heldout", "scores-untrained.jsonl"
    )
    seconds = time.monotonic() - started
    report(trained, untrained, seconds)
    if is_new:
        write_record(trained, untrained, seconds, training_seconds, length)


def training_kimg() -> float:
    """The length of the training on this machine."""
    from configs import recipe
    from torch_utils.distributed import resolve_device
    from torch_utils.precision import has_fast_bf16

    fast = has_fast_bf16(resolve_device("auto"))
    return recipe(RECIPE).kimg if fast else KIMG_WITHOUT_BF16


def write_record(
    trained: dict[str, dict],
    untrained: dict[str, dict],
    seconds: float,
    training_seconds: float,
    kimg: float,
) -> None:
    """Write runs/demo/record.json, with the figures that the README states of a demo in one go.

    docs/figures.py reads a copy of it in benchmarks/results/.
    """
    held = trained["clip_s_small_heldout"]
    values = {
        "minutes": seconds / 60,
        "training_minutes": training_seconds / 60,
        "kimg": kimg,
        "kid_lite2": trained["kid_lite2"]["value"],
        "kid_lite2_untrained": untrained["kid_lite2"]["value"],
        "clip_s_small_heldout": held["value"],
        "clip_s_small_heldout_shuffled": held["shuffled"],
    }
    record = {
        "benchmark": "demo",
        "date": f"{datetime.date.today()}",
        "machine": {"device": platform.machine(), "cores": os.cpu_count()},
        "values": values,
    }
    write_json(RUN / "record.json", record, ours=in_our_folder)


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
