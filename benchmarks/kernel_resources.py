"""Compile every CUDA kernel and record registers, spills and instructions. No GPU is needed.

`python -m benchmarks.kernel_resources` writes benchmarks/results/<date>-kernel-resources.json and
the tables of docs/ops.md between its markers. It exits with code 1 if a kernel of a forward pass
that the presets launch spills registers. A record holds a hash of the kernels' code and flags, by
which a test finds kernels that changed without a new record. `--ops DIRECTORY` records the kernels
of another checkout, to compare with. Files whose intermediate code (PTX) is in a record are not
compiled again, so an interrupted run continues.
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
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import click

from benchmarks.harness import RECORD
from benchmarks.sass import counts, functions, resources
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import read_json, write_text
from dnnlib.ownership import in_our_folder, refuse_foreign
from networks.generators.eidgan import EidganConfig
from torch_utils.ops.build import NVCC_FLAGS, OPS, compiler_version, cuda_home

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "ops.md", ROOT / "benchmarks" / "results"
LAUNCHES = ROOT / "benchmarks" / "launches"
BEGIN, END = "<!-- kernel-resources:begin -->\n", "<!-- kernel-resources:end -->\n"
# Most shared memory of a block, in KiB, by architecture.
SHARED_KIB = {"8.0": 163, "8.6": 99, "9.0": 227, "12.0": 99}
# Name of a type in C++ symbols -> our name, and its number in dtypes.h.
DTYPES = {"f": ("fp32", 0), "3f16": ("fp16", 1), "4bf16": ("bf16", 2), "4tf32": ("TF32", 3)}
BACKWARD = ("backward", "lines", "act_backward", "weights_backward", "sum")
NOT_COMPILED = ("emulate.h", "torch_glue.h")  # headers that nvcc does not read
Row = dict


def sources(ops: Path = OPS) -> list[Path]:
    return sorted(ops.glob("*/cuda/*.cu"))


def source_hash(ops: Path = OPS) -> str:
    """A hash of the kernels' code without comments and of the compiler's flags."""
    key = hashlib.sha256(" ".join(NVCC_FLAGS).encode())
    for path in sorted(ops.glob("**/cuda/*")):
        if path.suffix in (".cu", ".h") and path.name not in NOT_COMPILED:
            code = re.sub(r"\s*//.*", "", path.read_text(encoding="utf-8"))
            key.update(f"{path.relative_to(ops).as_posix()}\n{code}\0".encode())
    return key.hexdigest()[:16]


def cuobjdump(home: Path) -> Path:
    """The path of cuobjdump: of the toolkit, or else of PATH, or else of the package triton.

    home: folder of the CUDA toolkit. Raises `UserError` if there is none.
    """
    triton, on_path = find_spec("triton"), shutil.which("cuobjdump")
    folders = triton.submodule_search_locations if triton else None
    of_triton = [Path(folder) / "backends/nvidia/bin/cuobjdump" for folder in folders or []]
    for tool in [home / "bin/cuobjdump", *([Path(on_path)] if on_path else []), *of_triton]:
        if tool.exists():
            return tool
    raise UserError(
        f"cuobjdump: neither in {home / 'bin'} nor on PATH nor beside triton; "
        "install the CUDA toolkit's binary utilities"
    )


def named(symbol: str) -> dict:
    """The kernel, dtype and template arguments of a mangled symbol.

    Of the arguments, `packs` has the lists (the widths, then those of the refinement) and `numbers`
    the single numbers.
    """
    match = re.search(r"\d([a-z_]+)_kernel(?:I(.*))?", symbol)
    assert match, f"{symbol} is not called NAME_kernel or NAME_kernel<dtype, ...>"
    kernel, rest = match[1], match[2] or "f"
    dtype = next(dtype for dtype in DTYPES if rest.startswith(dtype))

    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"Li(\d+)E", text)]

    pack = r"J((?:Li\d+E)+)E"
    return {
        "kernel": kernel,
        "dtype": DTYPES[dtype][0],
        "packs": [numbers(text) for text in re.findall(pack, rest)],
        "numbers": numbers(re.sub(pack, "", rest)),
    }


def compiled(
    source: Path, architecture: str, ops: Path = OPS, known: dict[str, list[Row]] | None = None
) -> list[Row]:
    """The rows of all kernels of one file for one architecture, sorted.

    known: rows of earlier records by PTX hash, which are not compiled again.
    Raises `UserError` with the beginning of the compiler's message.
    """
    home, number = cuda_home(), architecture.replace(".", "")
    with tempfile.TemporaryDirectory() as folder:
        ptx, binary = Path(folder) / "kernels.ptx", Path(folder) / "kernels.cubin"

        def nvcc(*arguments: str | Path) -> str:
            done = subprocess.run(
                [home / "bin/nvcc", "-w", *arguments], capture_output=True, text=True, check=False
            )
            if done.returncode:
                message = done.stderr[:500]
                raise UserError(f"{source.name} does not compile for {architecture}: {message}")
            return done.stderr

        nvcc(*NVCC_FLAGS, f"-arch=compute_{number}", f"-I{ops}", "-ptx", source, "-o", ptx)
        # Remove the hashes of the file's path from the symbols.
        text = re.sub(r"_GLOBAL__N__\w{8}_|_cu_\w{8}", "", ptx.read_text())
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        if known and digest in known:
            return known[digest]
        used = resources(nvcc(f"-arch=sm_{number}", "-Xptxas", "-v", "-cubin", ptx, "-o", binary))
        done = subprocess.run(
            [cuobjdump(home), "-sass", binary], capture_output=True, text=True, check=True
        )
        code = functions(done.stdout)
    facts = {"arch": architecture, "ptx": digest}
    rows = [named(symbol) | facts | used[symbol] | counts(code[symbol]) for symbol in used]
    order = ("kernel", "dtype", "packs", "numbers")
    return sorted(rows, key=lambda row: [row[name] for name in order])


def known_rows(records: list[Path]) -> dict[str, list[Row]]:
    """The rows of all these records that exist, by PTX hash."""
    known: dict[str, list[Row]] = {}
    for path in filter(Path.exists, records):
        groups = defaultdict(list)
        for row in read_json(path)["rows"]:
            if "ptx" in row:  # records of other benchmarks have no PTX
                groups[row["ptx"]].append(row)
        known |= groups
    return known


def launches_program(folder: Path, ops: Path = OPS) -> Path:
    """Compile a program that prints the threads and shared memory of launches; needs no nvcc."""
    compiler, objects = shutil.which("c++"), []
    if compiler is None:
        raise UserError("c++: no C++ compiler on PATH; install one")

    def cxx(*arguments: str | Path) -> None:
        subprocess.run([compiler, "-O0", "-std=c++17", "-w", f"-I{ops}", *arguments], check=True)

    for source in sources(ops):
        objects.append(folder / f"{source.stem}.o")
        cxx("-include", LAUNCHES / "record.h", "-x", "c++", "-c", source, "-o", objects[-1])
    cxx(LAUNCHES / "main.cpp", *objects, "-o", folder / "launches")
    return folder / "launches"


def add_launches(rows: list[Row], program: Path) -> None:
    """Add `threads` and `dynamic_shared` of the presets' launches to the rows.

    Both are None for kernels that the presets do not launch.
    """
    config, codes = EidganConfig(), dict(DTYPES.values())
    for row in rows:
        kernel, packs, numbers = row["kernel"], [*row["packs"], [], []], row["numbers"]
        depth, channels = config.thickness, max(config.channels)
        if kernel == "lines":
            depth, channels = numbers[0], config.features
        widths = [",".join(map(str, pack)) or "-" for pack in packs[:2]]
        words = [SHARED_KIB[row["arch"]], kernel, codes[row["dtype"]], depth, channels, *widths]
        printed = subprocess.run(
            [program, *map(str, words)], capture_output=True, text=True, check=True
        ).stdout.split()
        threads, shared = (int(printed[0]), int(printed[1])) if printed else (None, None)
        # Of several variants of a kernel, one is launched: for the pixels' backward the variant
        # with as many warps as fit, for other kernels the variant for many channels.
        not_launched = {
            "backward": numbers[:1] != [threads and threads // 32],
            "act": numbers == [1],
            "weights": numbers != [4],
            "weights_backward": numbers != [4],
        }.get(kernel)
        row |= {
            "threads": None if not_launched else threads,
            "dynamic_shared": None if not_launched else shared,
        }


def spills(rows: list[Row]) -> list[str]:
    """A line for each kernel of a forward pass that the presets launch and that spills."""
    return [
        f"{label(row)}, {row['dtype']}, spills {row['spilled']} bytes on {row['arch']}"
        for row in rows
        if row["spilled"] and row["threads"] and row["kernel"] not in BACKWARD
    ]


def label(row: Row) -> str:
    """The kernel's name with the template arguments that distinguish its variants."""
    more = {
        "backward": "{} warps",
        "lines": "D = {}",
        "weights": "{} pairs of rows",
        "weights_backward": "{} pairs of rows",
        "act": "{} numbers a thread",
    }.get(row["kernel"])
    parts = [f"`{row['kernel']}`", *("-".join(map(str, pack)) for pack in row["packs"])]
    return ", ".join([*parts, more.format(*row["numbers"])] if more else parts)


def key(row: Row) -> tuple[str, str, str]:
    return label(row), row["dtype"], row["arch"]


def shown(rows: list[Row]) -> list[tuple[str, str]]:
    """Label and dtype of the kernels in the tables.

    These are the kernels that are launched, in bf16 or fp32; of `lines` only that for D = 8.
    """
    return list(
        dict.fromkeys(
            (label(row), row["dtype"])
            for row in rows
            if row["threads"]
            and row["dtype"] in ("bf16", "fp32")
            and (row["kernel"] != "lines" or row["numbers"] == [8])
        )
    )


def _registers(row: Row) -> str:
    return f"{row['registers']}/{row['spilled']}" if row["threads"] else "-"


def _shared(row: Row) -> str:
    return f"{(row['static_shared'] + row['dynamic_shared']) / 1024:.0f}" if row["threads"] else "-"


def _number(what: str):
    return lambda row: str(row[what])


def _widths(what: str):
    def figure(row: Row) -> str:
        return ", ".join(f"{number} x {bits}" for bits, number in row[what].items()) or "none"

    return figure


def tables(record: dict, before: dict) -> str:
    """The tables of docs/ops.md. A figure that differs from `before` is shown as 'old -> new'."""
    new, old = ({key(row): row for row in r["rows"]} for r in (record, before))

    def cells(name: str, dtype: str, columns: list) -> str:
        texts = []
        for arch, figure in columns:
            value = figure(new[name, dtype, arch])
            old_value = figure(old[name, dtype, arch]) if (name, dtype, arch) in old else value
            texts.append(value if old_value == value else f"{old_value} -> {value}")
        return f"| {name} | {dtype} | {' | '.join(texts)} |"

    def table(head: str, columns: list) -> list[str]:
        body = [cells(name, dtype, columns) for name, dtype in shown(record["rows"])]
        return [head, "|---|---|" + "---|" * len(columns), *body]

    archs = list(SHARED_KIB)
    names = ["Kernel", "Numbers", *archs, *(f"KiB, {arch}" for arch in archs)]
    lines = table(
        f"| {' | '.join(names)} |",
        [(arch, figure) for figure in (_registers, _shared) for arch in archs],
    )
    figures = [
        _number("instructions"),
        _number("hmma"),
        _number("lds"),
        _widths("loads"),
        _widths("in_flight"),
    ]
    head = "| Kernel, 9.0 | Numbers | Instructions | HMMA | LDS | Global loads | Most in flight |"
    lines += ["", *table(head, [("9.0", figure) for figure in figures])]
    return "\n".join(lines) + "\n"


def updated(text: str, records: tuple[Path, Path]) -> str:
    """The page `text` with new tables. records: the record, and an earlier one to compare with."""
    head, rest = text.split(BEGIN)
    now, then = records
    note = f"Records in `benchmarks/results/`: now `{now.name}`, before\n`{then.name}`.\n\n"
    return head + BEGIN + note + tables(read_json(now), read_json(then)) + END + rest.split(END)[1]


def recorded_before(text: str) -> Path:
    """The earlier record that the page names."""
    return RESULTS / re.findall(r"before\s`([\w.-]+)`", text.split(BEGIN)[1])[0]


def record(ops: Path, path: Path) -> dict:
    """Compile all kernels below `ops` for all architectures, and write the record after each file.

    The rows of an interrupted run stay in the record until the end.
    """
    facts = {
        "benchmark": "kernel_resources",
        "date": datetime.date.today().isoformat(),
        "sources": "not all",
        "nvcc": ".".join(map(str, compiler_version(cuda_home()))),
        "flags": NVCC_FLAGS,
    }
    earlier = known_rows([path])
    rows, known = [], known_rows([*RESULTS.glob("*kernel-resources*.json")]) | earlier
    with tempfile.TemporaryDirectory() as folder:
        program = launches_program(Path(folder), ops)
        for source in sources(ops):
            for architecture in SHARED_KIB:
                more = compiled(source, architecture, ops, known)
                add_launches(more, program)
                rows += more
                if any(row["ptx"] not in known for row in more):
                    done = {row["ptx"] for row in rows}
                    kept = [row for ptx in earlier if ptx not in done for row in earlier[ptx]]
                    write_record(path, facts | {"rows": rows + kept})
                click.echo(f"{source.name} {architecture}: {len(rows)} kernels so far")
    whole = facts | {"sources": source_hash(ops), "rows": rows}
    write_record(path, whole)
    return whole


def write_record(path: Path, record: dict) -> None:
    """Write a record as JSON with one line for each row."""
    facts = {name: value for name, value in record.items() if name != "rows"}
    rows = ",\n".join("  " + json.dumps(row) for row in record["rows"])
    text = json.dumps(facts, indent=1)[:-2] + f',\n "rows": [\n{rows}\n ]\n}}\n'
    write_text(path, text, ours=RECORD)


@click.command()
@click.option(
    "--ops",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=OPS,
    help="torch_utils/ops of another checkout: write its record, but not docs/ops.md.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path),
    help="File of the record.  [default: a dated file in benchmarks/results]",
)
@report_user_errors
def main(ops: Path, path: Path | None) -> None:
    """Record the registers, spills and instructions of every kernel."""
    path = path or RESULTS / f"{datetime.date.today().isoformat()}-kernel-resources.json"
    refuse_foreign(path, RECORD)
    rows = record(ops, path)["rows"]
    if ops == OPS:
        page = PAGE.read_text(encoding="utf-8")
        write_text(PAGE, updated(page, (path, recorded_before(page))), ours=in_our_folder)
    problems = spills(rows)
    if problems:
        sys.exit("Error: " + "; ".join(problems))


if __name__ == "__main__":
    main()
