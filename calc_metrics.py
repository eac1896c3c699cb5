"""Scores of a snapshot: one JSON record a protocol on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dnnlib.console import report_user_errors

DEFAULT_METRICS = "kid_lite2,clip_s_small,clip_s_small_heldout,clip_r_small,scale_x2,tile_exact"


@click.group()
def main() -> None:
    """Score a snapshot by named, frozen protocols (docs/evaluation.md)."""


@main.command()
@click.option("--network", required=True, metavar="RUN|SNAPSHOT",
              help="Run folder (its newest snapshot) or snapshot folder.")
@click.option("--data", required=True, metavar="ZIP|DIR", help="Data set whose captions and real pictures are used.")
@click.option("--metrics", default=DEFAULT_METRICS, show_default=True, metavar="A,B,...", help="Protocols; see `list`.")
@click.option("--num-images", "--num", "num", type=int, metavar="N", help="Generated pictures a protocol; scale_* and tile_exact take it as "
              "an upper limit only.  [default: the protocol's own]")
@click.option("--seed", type=int, metavar="N", help="Block of captions and latents.  [default: the protocol's own]")
@click.option("--trunc", type=float, metavar="PSI", help="Truncation of the latent.  [default: the protocol's own]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--batch-gpu", default=32, show_default=True, type=click.IntRange(min=1), metavar="N",
              help="Pictures at once, per rank.")
@click.option("--cache", default="data/.cache", show_default=True, metavar="DIR",
              help="Where features of real pictures are kept; the user's cache folder if one cannot write there.")
@click.option("--out", metavar="FILE.jsonl", help="Append the records to this file as well.")
@report_user_errors
def calc(network: str, data: str, metrics: str, num: int | None, seed: int | None, trunc: float | None, device: str,
         batch_gpu: int, cache: str, out: str | None) -> None:
    """Compute scores, one JSON line each. Runs under torchrun as well, whose own --num... wants --num-images in full here."""
    from metrics.protocols import protocols_named

    # Names are checked before anything heavy is loaded.
    protocols = protocols_named([name.strip() for name in metrics.split(",") if name.strip()])

    from dnnlib.files import append_json_line, cache_folder, make_folder, user_cache_folder
    from metrics.runner import evaluate, load_subject
    from torch_utils.distributed import from_main, is_main, process_group, resolve_device
    from torch_utils.memory import memory_errors

    where = resolve_device(device)
    if out:
        make_folder(Path(out).parent)
    with process_group(where), memory_errors("lower --batch-gpu"):
        cache_dir = from_main(cache_folder(cache, user_cache_folder()) if is_main() else None)
        records = evaluate(load_subject(network, where), data, protocols, num=num, seed=seed, truncation=trunc,
                           device=where, batch_size=batch_gpu, cache_dir=cache_dir,
                           progress=_print_progress if is_main() else None)
        for record in records:
            if is_main():
                print(json.dumps(record, allow_nan=False, ensure_ascii=False), flush=True)
                if out:
                    append_json_line(out, record)


@main.command("list")
def list_protocols() -> None:
    """Name the protocols, their number of pictures, split and meaning."""
    from metrics.protocols import PROTOCOLS

    width = max(map(len, PROTOCOLS))
    for row in PROTOCOLS.values():
        print(f"{row.name:<{width}}  {row.pictures.num_images:>5} {row.pictures.split:<5}  {row.summary}")


def _print_progress(what: str, done: int, total: int) -> None:
    """A line that rewrites itself on a terminal; else one line when a stage is done."""
    if sys.stderr.isatty():
        print(f"\r{what}: {done}/{total}\033[K", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total:
        print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
