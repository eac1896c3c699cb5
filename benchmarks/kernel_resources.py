"""Compiles every CUDA kernel and records what the compiler made of it: `python -m benchmarks.kernel_resources`. No GPU is needed.

Writes benchmarks/results/<date>-kernel-resources.json and the tables of docs/ops.md between its markers, and exits with 1 where a
kernel of a forward pass spills registers. A record holds a hash of the kernels' code and flags, so a test notices kernels that
changed without a new record. `--ops DIRECTORY` records the kernels of another checkout, as a state to compare with.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from benchmarks.sass import counts, functions, resources
from dnnlib.errors import UserError
from dnnlib.files import read_json, write_text
from networks.generators import preset
from torch_utils.ops.build import NVCC_FLAGS, OPS, compiler_version, cuda_home

ROOT = Path(__file__).parents[1]
PAGE, RESULTS, LAUNCHES = ROOT / "docs" / "ops.md", ROOT / "benchmarks" / "results", ROOT / "benchmarks" / "launches"
BEGIN, END = "<!-- kernel-resources:begin -->\n", "<!-- kernel-resources:end -->\n"
SHARED_KIB = {"8.0": 163, "8.6": 99, "9.0": 227, "12.0": 99}  # architecture -> most that a block can have
DTYPES = {"f": ("fp32", 0), "3f16": ("fp16", 1), "4bf16": ("bf16", 2), "4tf32": ("TF32", 3)}  # mangled -> name, number in dtypes.h
BACKWARD = ("backward", "lines", "act_backward")
Row = dict


def sources(ops: Path = OPS) -> list[Path]:
    return sorted(ops.glob("*/cuda/*.cu"))


def source_hash(ops: Path = OPS) -> str:
    """Of everything that decides about the compiled kernels but the compiler: code without comments, and flags."""
    files = [path for path in ops.glob("**/cuda/*") if path.suffix in (".cu", ".h") and path.name not in ("emulate.h", "torch_glue.h")]
    key = hashlib.sha256(" ".join(NVCC_FLAGS).encode())
    for path in sorted(files):
        code = re.sub(r"\s*//.*", "", path.read_text(encoding="utf-8"))
        key.update(f"{path.relative_to(ops).as_posix()}\n{code}\0".encode())
    return key.hexdigest()[:16]


def cuobjdump(home: Path) -> Path:
    """Of the toolkit, else of PATH, else the one that triton brings. Raises `UserError`."""
    triton = find_spec("triton")
    brought = [Path(folder) / "backends/nvidia/bin/cuobjdump" for folder in (triton.submodule_search_locations if triton else [])]
    on_path = shutil.which("cuobjdump")
    for tool in [home / "bin/cuobjdump", *([Path(on_path)] if on_path else []), *brought]:
        if tool.exists():
            return tool
    raise UserError(f"cuobjdump: neither in {home / 'bin'} nor on PATH nor beside triton; install the CUDA toolkit's binary utilities")


def named(symbol: str) -> dict:
    """A kernel's mangled name -> kernel, dtype and template numbers: packs (widths, then those of the refinement), single ones."""
    kernel, rest = re.search(r"\d([a-z_]+)_kernelI(.*)", symbol).groups()
    mangled = next(dtype for dtype in DTYPES if rest.startswith(dtype))

    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"Li(\d+)E", text)]

    pack = r"J((?:Li\d+E)+)E"
    return {"kernel": kernel, "dtype": DTYPES[mangled][0], "packs": [numbers(found) for found in re.findall(pack, rest)],
            "numbers": numbers(re.sub(pack, "", rest))}


def compiled(source: Path, architecture: str, ops: Path = OPS) -> list[Row]:
    """Every kernel of one file for one architecture, sorted. Raises `UserError` with the compiler's first lines."""
    home, number = cuda_home(), architecture.replace(".", "")
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernels.cubin"
        command = [home / "bin/nvcc", *NVCC_FLAGS, "-gencode", f"arch=compute_{number},code=sm_{number}", "-w", "-Xptxas", "-v",
                   f"-I{ops}", "-cubin", source, "-o", binary]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{source.name} does not compile for {architecture}: {done.stderr[:500]}")
        code = functions(subprocess.run([cuobjdump(home), "-sass", binary], capture_output=True, text=True, check=True).stdout)
    said = resources(done.stderr)
    rows = [named(symbol) | {"arch": architecture} | said[symbol] | counts(code[symbol]) for symbol in said]
    return sorted(rows, key=lambda row: (row["kernel"], row["dtype"], row["packs"], row["numbers"]))


def launches_program(folder: Path, ops: Path = OPS) -> Path:
    """Compile the launchers with a C++ compiler, such that they print threads and shared memory and start nothing."""
    objects = []
    for source in sources(ops):
        objects.append(folder / f"{source.stem}.o")
        _cxx("-include", LAUNCHES / "record.h", "-x", "c++", "-c", source, "-o", objects[-1], ops=ops)
    _cxx(LAUNCHES / "main.cpp", *objects, "-o", folder / "launches", ops=ops)
    return folder / "launches"


def _cxx(*arguments, ops: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        raise UserError("c++: no C++ compiler on PATH; install one")
    subprocess.run([compiler, "-O0", "-std=c++17", "-w", f"-I{ops}", *arguments], check=True)


def add_launches(rows: list[Row], program: Path) -> None:
    """Add threads and dynamic shared memory of the launch that the presets make; None where they launch another kernel."""
    config, codes = preset("eidgan"), dict(DTYPES.values())
    for row in rows:
        kernel, packs, numbers = row["kernel"], [*row["packs"], [], []], row["numbers"]
        depth, channels = (numbers[0], config.features) if kernel == "lines" else (config.thickness, max(config.channels))
        asked = [SHARED_KIB[row["arch"]], kernel, codes[row["dtype"]], depth, channels,
                 *(",".join(map(str, pack)) or "-" for pack in packs[:2])]
        said = subprocess.run([program, *map(str, asked)], capture_output=True, text=True, check=True).stdout.split()
        threads, shared = (int(said[0]), int(said[1])) if said else (None, None)
        # Launched is one of several: of the backward by the warps that fit, of the others the one for many channels.
        other = {"backward": numbers[:1] != [threads and threads // 32], "weights": numbers != [4], "act": numbers == [1]}
        row |= {"threads": None, "dynamic_shared": None} if other.get(kernel) else {"threads": threads, "dynamic_shared": shared}


def spills(rows: list[Row]) -> list[str]:
    """Kernels of a forward pass that spill, in words."""
    return [f"{label(row)}, {row['dtype']}, spills {row['spilled']} bytes on {row['arch']}" for row in rows
            if row["spilled"] and row["kernel"] not in BACKWARD]


def label(row: Row) -> str:
    """The kernel and what tells it from its sisters."""
    more = {"backward": "{} warps", "lines": "D = {}", "weights": "{} pairs of rows", "act": "{} numbers a thread"}.get(row["kernel"], "")
    parts = ["-".join(map(str, pack)) for pack in row["packs"]] + [more.format(*row["numbers"])] * bool(more)
    return ", ".join([f"`{row['kernel']}`", *parts])


def key(row: Row) -> tuple:
    return label(row), row["dtype"], row["arch"]


def tables(record: dict, before: dict) -> str:
    """What the page holds between its markers. A figure that differs from `before` stands as `old -> new`."""
    new, old = ({key(row): row for row in r["rows"]} for r in (record, before))
    shown = dict.fromkeys((label(row), row["dtype"]) for row in record["rows"] if row["dtype"] in ("bf16", "fp32") and any(
        other["threads"] for other in record["rows"] if key(other)[:2] == key(row)[:2]) and (
            row["kernel"] != "lines" or row["numbers"] == [8]))

    def cell(name: str, dtype: str, arch: str, figure) -> str:
        now, then = new[name, dtype, arch], old.get((name, dtype, arch))
        was = figure(then) if then else figure(now)
        return figure(now) if was == figure(now) else f"{was} -> {figure(now)}"

    def registers(row: Row) -> str:
        return f"{row['registers']}/{row['spilled']}" if row["threads"] else "-"

    def shared(row: Row) -> str:
        return f"{(row['static_shared'] + row['dynamic_shared']) / 1024:.0f}" if row["threads"] else "-"

    def widths(figure: str):
        return lambda row: " ".join(f"{number} x {bits}" for bits, number in row[figure].items()) or "none"

    lines = ["| Kernel | Numbers | " + " | ".join(SHARED_KIB) + " | " + " | ".join(f"KiB, {arch}" for arch in SHARED_KIB) + " |",
             "|---|---|" + "---|" * 2 * len(SHARED_KIB)]
    lines += [f"| {name} | {dtype} | " + " | ".join(cell(name, dtype, arch, figure) for figure in (registers, shared) for arch in SHARED_KIB)
              + " |" for name, dtype in shown]
    lines += ["", "| Kernel, 9.0 | Numbers | Instructions | HMMA | LDS | Global loads x bits | Most in flight x bits |", "|---|---|---|---|---|---|---|"]
    figures = [lambda row, what=what: str(row[what]) for what in ("instructions", "hmma", "lds")] + [widths("loads"), widths("in_flight")]
    lines += [f"| {name} | {dtype} | " + " | ".join(cell(name, dtype, "9.0", figure) for figure in figures) + " |" for name, dtype in shown]
    return "\n".join(lines) + "\n"


def updated(text: str, records: tuple[Path, Path]) -> str:
    """The page with the tables of (the record, the record of the state before)."""
    before, rest = text.split(BEGIN)
    now, then = records
    said = f"Records in `benchmarks/results/`: now `{now.name}`, before `{then.name}`.\n\n"
    return before + BEGIN + said + tables(read_json(now), read_json(then)) + END + rest.split(END)[1]


def recorded_before(text: str) -> Path:
    """The record that the page names as the state before."""
    return RESULTS / re.search(r"before `([\w.-]+)`", text.split(BEGIN)[1])[1]


def record_of(ops: Path, architectures: list[str]) -> dict:
    rows = []
    for source in sources(ops):
        for architecture in architectures:
            rows += compiled(source, architecture, ops)
            click.echo(f"{source.name} {architecture}: {len(rows)} kernels so far")
    with tempfile.TemporaryDirectory() as folder:
        add_launches(rows, launches_program(Path(folder), ops))
    return {"benchmark": "kernel_resources", "date": datetime.date.today().isoformat(), "sources": source_hash(ops),
            "nvcc": ".".join(map(str, compiler_version(cuda_home()))), "flags": NVCC_FLAGS, "rows": rows}


@click.command()
@click.option("--ops", type=click.Path(exists=True, file_okay=False, path_type=Path), default=OPS, help="torch_utils/ops of another checkout; "
              "its record is written and the page is left alone.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Default: a dated file in benchmarks/results.")
@click.option("--before", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Record of the state to compare with; default: the "
              "one that the page names.")
def main(ops: Path, json_path: Path | None, before: Path | None) -> None:
    """Record what the compiler makes of every kernel."""
    record = record_of(ops, list(SHARED_KIB))
    path = json_path or RESULTS / f"{record['date']}-kernel-resources.json"
    rows = ",\n".join("  " + json.dumps(row) for row in record.pop("rows"))
    write_text(path, json.dumps(record, indent=1)[:-2] + f',\n "rows": [\n{rows}\n ]\n}}\n')
    record = read_json(path)
    if ops == OPS:
        page = PAGE.read_text(encoding="utf-8")
        write_text(PAGE, updated(page, (path, before or recorded_before(page))))
    problems = spills(record["rows"])
    if problems:
        sys.exit("Error: " + "; ".join(problems))


if __name__ == "__main__":
    main()
