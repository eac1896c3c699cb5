"""Train every system and ablation with the same settings, for `benchmarks.comparison`.

    python -m benchmarks.comparison_runs --data data/flowers64.zip --outdir runs/comparison \\
        --kimg 60 --seeds 0,1,2 -- --metrics none

Each recipe and seed is one run of train.py, which gets the arguments after `--`. The command can be
interrupted and repeated: finished runs stay as they are, and stopped runs resume.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from configs.systems import SYSTEMS
from dnnlib.console import report_user_errors
from dnnlib.cores import num_cores
from dnnlib.errors import UserError

ROOT = Path(__file__).parent.parent
RECIPES = ",".join(f"{system}-flowers64" for system in ("eidgan", *SYSTEMS))


def train(recipe: str, seed: int, outdir: Path, arguments: list[str], threads: int) -> str | None:
    """Train one run to its end. Returns None, or the last line of a run that ended with an error.

    arguments: for train.py. threads: OMP_NUM_THREADS of the run.
    """
    folder = outdir / f"{recipe}-seed{seed}"
    command = [
        sys.executable,
        "train.py",
        "--outdir",
        str(folder.resolve()),
        "--recipe",
        recipe,
        "--seed",
        str(seed),
        *arguments,
    ]
    click.echo(f"{folder.name}: started", err=True)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    click.echo(
        f"{folder.name}: {'done' if not done.returncode else f'exit code {done.returncode}'}",
        err=True,
    )
    lines = done.stdout.strip().splitlines() or [""]
    return None if not done.returncode else f"{folder.name}: {lines[-1]}"


@click.command()
@click.argument("arguments", nargs=-1)
@click.option("--data", required=True, metavar="ZIP")
@click.option(
    "--outdir",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the run folders RECIPE-seedN.",
)
@click.option("--kimg", required=True, type=float, help="Length of every training.")
@click.option("--seeds", default="0,1", show_default=True, metavar="N,N")
@click.option(
    "--recipes",
    default=RECIPES,
    show_default="all systems and ablations on flowers64",
    metavar="A,B",
)
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of trainings at the same time; they share the cores.",
)
@report_user_errors
def main(
    arguments: tuple[str, ...],
    data: str,
    outdir: Path,
    kimg: float,
    seeds: str,
    recipes: str,
    jobs: int,
) -> None:
    """Train each recipe with each seed; all recipes with the first seed come first. train.py gets
    the arguments after --.
    """
    threads = max(1, num_cores() // jobs)
    passed = ["--data", str(Path(data).resolve()), "--kimg", str(kimg), *arguments]
    stop, problems = threading.Event(), []

    def work(recipe: str, seed: int) -> None:
        if not stop.is_set() and (problem := train(recipe, seed, outdir, passed, threads)):
            stop.set()
            problems.append(problem)

    with ThreadPoolExecutor(jobs) as pool:
        for seed in seeds.split(","):
            for recipe in recipes.split(","):
                pool.submit(work, recipe, int(seed))
    if problems:
        raise UserError("; ".join(problems))


if __name__ == "__main__":
    main()
