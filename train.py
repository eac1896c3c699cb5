"""Train a text-to-image GAN. Run it again to resume; under torchrun it uses every process."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.number_options import FiniteFloat
from dnnlib.version import VERSION

if TYPE_CHECKING:
    from training.config import TrainConfig

STOPPED = 3  # exit code of a run that a signal stopped before its end; its state is saved


def _names(text: str) -> tuple[str, ...]:
    """The value of a list option: 'a,b' -> ('a', 'b'); 'none' -> ()."""
    return () if text == "none" else tuple(part.strip() for part in text.split(",") if part.strip())


@click.command(context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--outdir",
    required=True,
    metavar="DIR",
    help="Folder of the run; a run that it holds is resumed.",
)
@click.option(
    "--recipe",
    required=True,
    metavar="NAME",
    help="Recipe to train; configs/ and docs/configs.md list them.",
)
@click.option(
    "--data",
    metavar="PATH",
    help="Data set of dataset_tool.py or StyleGAN's tools, a zip or folder of pictures, or "
    "WebDataset shards: a folder, 'cc/{0000..0331}.tar', or 'pipe:COMMAND'.",
)
@click.option(
    "--caption-template",
    metavar="TEXT",
    help="Make captions such as 'a photo of a {}', with StyleGAN's class label for {}.",
)
@click.option(
    "--class-names",
    metavar="FILE",
    help="Names of the class labels, one a line, or JSON.  [default: the label's number]",
)
@click.option(
    "--kimg",
    type=FiniteFloat(min=0, min_open=True),
    help="Length of training in thousands of real images.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Images in one step, over all ranks and accumulation rounds.",
)
@click.option(
    "--batch-gpu",
    type=click.IntRange(min=1),
    help="Most images in one forward pass of a rank; larger batches accumulate gradients.",
)
@click.option("--gamma", type=FiniteFloat(min=0), help="Weight of the R1 penalty.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all random numbers.")
@click.option(
    "--cond",
    type=bool,
    metavar="BOOL",
    help="false: train without text; no captions are read.  [default: the recipe's value]",
)
@click.option(
    "--aug",
    type=click.Choice(["noaug", "ada", "fixed"]),
    help="Augmentation of the images that D sees.",
)
@click.option(
    "--patch",
    type=click.IntRange(min=8),
    metavar="PX",
    help="Train on square patches of PX pixels, cut at random place and scale from pictures of any "
    "size and shape. Eidgan, creps, inrgan and cips can.",
)
@click.option(
    "--scale-range",
    metavar="A-B",
    help="Scales of the patches: a patch shows its picture as if the short side had PX times A to "
    "PX times B pixels. A picture is never enlarged.  [default: the recipe's value, else 1-4]",
)
@click.option(
    "--mirror", type=bool, metavar="BOOL", help="Also train on horizontally flipped pictures."
)
@click.option("--tick", type=FiniteFloat(min=0, min_open=True), help="kimg between log lines.")
@click.option(
    "--snap", type=click.IntRange(min=1), help="Ticks between snapshots, checkpoints and metrics."
)
@click.option(
    "--checkpoint-minutes",
    type=FiniteFloat(min=0, min_open=True),
    help="Longest time between two checkpoints, in minutes. They are written at the end of a tick, "
    "so a killed run loses at most this time plus one tick.",
)
@click.option(
    "--keep-latest",
    type=click.IntRange(min=1),
    help="Checkpoints to keep; a damaged one is replaced by the one before it.",
)
@click.option(
    "--metrics",
    metavar="A,B|none",
    help="Metrics to compute at every snapshot; calc_metrics.py list names them.",
)
@click.option(
    "--ops",
    type=click.Choice(["auto", "cuda", "ref"]),
    help="Operators: CUDA kernels, plain PyTorch (ref), or CUDA kernels where they run (auto).",
)
@click.option(
    "--cuda-graph",
    type=click.Choice(["auto", "on", "off"]),
    help="Run training steps as CUDA graphs, which start faster. auto: where that is possible. on: "
    "otherwise the run does not start.",
)
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.")
@click.option("--workers", type=click.IntRange(min=0), help="Loader processes of each rank.")
@click.option(
    "--report-to", metavar="A,B|none", help="tensorboard, wandb. stats.jsonl is always written."
)
@click.option(
    "--init-from",
    metavar="PATH",
    help="Start a new run from the weights of a snapshot or of user/name on the Hugging Face Hub; "
    "a run folder gives D's weights, too.",
)
@click.option(
    "--nan-policy",
    type=click.Choice(["stop", "skip", "rollback"]),
    help="Action on non-finite gradients.",
)
@click.option(
    "--ranks",
    default="auto",
    show_default=True,
    metavar="N|auto",
    help="Processes on this machine. auto: one for each CPU core if they divide the batch; 1 on a "
    "GPU or if OMP_NUM_THREADS is set.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="A.B=VALUE",
    help="Set any field of the config; may be repeated.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Print the config and exit.")
@click.option(
    "--estimate-memory",
    is_flag=True,
    help="Print the memory that a step needs in each process, and exit. --ranks N counts the "
    "batch's share of one of N processes.",
)
@report_user_errors
def main(
    outdir: str,
    recipe: str,
    cond: bool | None,
    patch: int | None,
    scale_range: str | None,
    ranks: str,
    assignments: tuple[str, ...],
    dry_run: bool,
    estimate_memory: bool,
    **flags: Any,
) -> None:
    """Train a text-to-image GAN. The same command, run again, resumes the run.

    On SIGINT, SIGTERM and SIGUSR1 the state is saved before the command exits with code 3.

    \b
    Examples:
      python train.py --outdir runs/coco --recipe eidgan-coco256 --device cuda --ranks 8 \\
          --estimate-memory
      python train.py --outdir runs/demo --recipe eidgan-openmoji32 --data data/openmoji32.zip
      torchrun --standalone --nproc-per-node 8 train.py --outdir runs/coco \\
          --recipe eidgan-coco256 --data data/coco-train256.zip
      python train.py --outdir runs/faces --recipe inrganclip-coco256 --cond false \\
          --data ffhq256.zip
      python train.py --outdir runs/any --recipe eidgan-flowers64 --patch 64 --scale-range 1-4 \\
          --data photos-native.zip
    """
    import json

    from configs import recipe as recipe_named
    from dnnlib.config_codec import override, to_dict

    for name in ("metrics", "report_to"):
        flags[name] = None if flags[name] is None else _names(flags[name])
    config = _conditional(recipe_named(recipe), cond)
    patches = _patches(patch, scale_range)
    config = override(config, [*_as_assignments(flags), *patches, *assignments])
    if scale_range and not config.patches.side:
        raise UserError("--scale-range: is the range of patches; add --patch, such as --patch 64")
    if dry_run or estimate_memory:
        from training.checkpoint import checkpoints
        from training.launch import refuse_at_start

        if not checkpoints(Path(outdir)):
            refuse_at_start(config)
    if dry_run:
        click.echo(json.dumps(to_dict(config.resolved()), indent=2))
        return
    if estimate_memory:
        from training.memory_estimate import estimate

        click.echo("\n".join(estimate(config, _processes(ranks) or 1).lines()))
        return

    from training.start import start

    chosen = flags["metrics"] is not None or any(
        assignment.startswith("metrics=") for assignment in assignments
    )
    if not start(config, Path(outdir), processes=_processes(ranks), metrics_asked=chosen):
        sys.exit(STOPPED)


# The field of the config that a flag sets, if its name is not the flag's.
FIELDS = {
    "caption_template": "labels.template",
    "class_names": "labels.names",
    "gamma": "loss.r1_gamma",
    "aug": "augment.mode",
    "tick": "tick_kimg",
    "snap": "snapshot_ticks",
}


def _processes(text: str) -> int | None:
    """The value of --ranks: 'auto' -> None, '2' -> 2. Raises `UserError` for other texts."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise UserError(f"--ranks {text}: give a number of processes, or auto")
    return int(text)


def _conditional(config: TrainConfig, cond: bool | None) -> TrainConfig:
    """The config with or without text. cond: the value of --cond; None keeps the recipe's."""
    if cond and not config.reads_text:
        raise UserError(
            f"--cond true: recipe {config.recipe} reads no text; take one that does "
            "(docs/configs.md)"
        )
    return config.without_text() if cond is False else config


def _patches(side: int | None, scale_range: str | None) -> list[str]:
    """--patch and --scale-range as assignments in the form of --set. Raises `UserError`."""
    assignments = []
    if side is not None:
        assignments = [f"patches.side={side}", f"discriminator.resolution={side}"]
    if scale_range is not None:
        least, _, most = scale_range.partition("-")
        try:
            scale = [float(least), float(most)]
            if not all(map(math.isfinite, scale)):
                raise ValueError
        except ValueError:
            raise UserError(f"--scale-range {scale_range}: expected A-B, such as 1-4") from None
        assignments.append(f"patches.scale={scale}")
    return assignments


def _as_assignments(flags: dict[str, Any]) -> list[str]:
    """The flags that the user gave, as assignments in the form of --set."""
    import json

    return [
        f"{FIELDS.get(name, name)}={json.dumps(value)}"
        for name, value in flags.items()
        if value is not None
    ]


if __name__ == "__main__":
    main()
