"""`python -m benchmarks.gpu_check` runs the parts of the check; `--list` lists them."""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
from pathlib import Path

from benchmarks.gpu_check.needs import ROOT, find_sanitizer, lacking
from benchmarks.gpu_check.parts import choose, listing
from benchmarks.gpu_check.runner import Runner
from dnnlib.errors import UserError


def main() -> int:
    """Returns the exit code: that of `Runner.run`, or 1 without a GPU or without click."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description="Check this machine's GPU."
    )
    parser.add_argument("--list", action="store_true", help="print the parts and their limits")
    parser.add_argument(
        "--results",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        help="folder for the records [default: benchmarks/results]",
    )
    parser.add_argument(
        "--parts", metavar="A,B", help="names of the parts to run [default: all of them]"
    )
    options = parser.parse_args()
    if options.list:
        print(listing())
        return 0
    try:
        chosen = choose(options.parts)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if lacking(("click",)):
        print("Error: every part needs the package click; pip install click", file=sys.stderr)
        return 1
    import torch

    from benchmarks.harness import machine

    if not torch.cuda.is_available():
        print(
            "Error: make gpu-check needs a CUDA device and PyTorch sees none; use make test here",
            file=sys.stderr,
        )
        return 1
    name = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
    # Containers list many architectures in this variable. Compile only for the GPU that is here.
    os.environ["TORCH_CUDA_ARCH_LIST"] = "{}.{}".format(*torch.cuda.get_device_capability())
    os.environ.pop("EIDGAN_OPS", None)
    for part in chosen:
        absent = lacking(part.needs)
        if absent:
            print(f"Part {part.name} will be skipped; this machine lacks {', '.join(absent)}")
    words = {
        "python": sys.executable,
        "device": "cuda",
        "sanitizer": find_sanitizer() or "compute-sanitizer",
    }
    prefix = options.results / f"{datetime.date.today().isoformat()}-{name}"
    return Runner(chosen, prefix, words, machine(torch.device("cuda"))).run()


if __name__ == "__main__":
    sys.exit(main())
