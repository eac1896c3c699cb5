"""What the benchmarks share: options, interleaved timing, peak memory and the JSON record.

Variants run in turn, round by round, in one process, so that changes of the clock rate and load by
other processes affect all of them alike. A time is the median over rounds, and its spread is the
interquartile range divided by the median. On CPUs, `cpu_ms` is the processor time of all threads;
with one thread, ratios are computed from it, because other processes hardly change it.

`share_of_limit` is limit / time with limit = max(bytes / bandwidth, FLOPs / rate). The bandwidth of
a copy and the rate of a matrix product are measured on the same machine in the same run.
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch

from dnnlib.console import report_user_errors
from dnnlib.files import write_json
from dnnlib.ownership import json_with, refuse_foreign

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VARIANTS = ("eager", "compile", "ours")
RECORD = json_with("benchmark", "rows")  # the rule for files that --json may replace


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def timing_options(seconds: float = 2.0):
    """Decorator: adds --rounds, --seconds with this default, and --json.

    A `UserError` of the command is printed as one line.
    """

    def decorate(function):
        function = report_user_errors(function)
        for option in (
            click.option(
                "--json",
                "json_path",
                type=click.Path(path_type=Path),
                help="Write the record to this file.",
            ),
            click.option(
                "--seconds",
                default=seconds,
                show_default=True,
                help="Approximate time for one case.",
            ),
            click.option(
                "--rounds", default=20, show_default=True, help="Most rounds of one case."
            ),
        ):
            function = option(function)
        return function

    return decorate


def benchmark_options(resolutions: str, batches: str):
    """Decorator: adds the options of every benchmark, with these defaults.

    A `UserError` of the command is printed as one line.
    """

    def decorate(function):
        function = timing_options()(function)
        for option in (
            click.option(
                "--device",
                default="cuda" if torch.cuda.is_available() else "cpu",
                show_default=True,
            ),
            click.option(
                "--resolutions",
                default=resolutions,
                show_default=True,
                metavar="R,R",
                help="Sides of the pictures in pixels.",
            ),
            click.option("--batches", default=batches, show_default=True, metavar="N,N"),
            click.option(
                "--dtypes",
                default="bf16,fp32",
                show_default=True,
                metavar="A,B",
                help="fp32, bf16 (autocast), fp16.",
            ),
            click.option(
                "--variants", default=",".join(VARIANTS), show_default=True, metavar="A,B"
            ),
        ):
            function = option(function)
        return function

    return decorate


class Bench:
    """Times the variants of cases, and writes all rows to --json after every case.

    title: name of the benchmark. arguments: the values of the options, by name.
    """

    def __init__(self, title: str, arguments: dict) -> None:
        self.title, self.arguments, self.path = title, arguments, arguments["json_path"]
        self.device, self.rounds, self.seconds = (
            torch.device(arguments["device"]),
            arguments["rounds"],
            arguments["seconds"],
        )
        self.rows: list[dict] = []
        if self.path:
            refuse_foreign(self.path, RECORD)
        self.ceilings: dict[str, float] = {}

    def sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def once(self, call: Callable[[], object]) -> float:
        """Elapsed seconds of one call, including its work on the GPU."""
        self.sync()
        start = time.perf_counter()
        call()
        self.sync()
        return time.perf_counter() - start

    def case(
        self,
        labels: dict,
        variants: dict[str, Callable[[], object]],
        *,
        flops: float = 0,
        bytes_moved: float = 0,
        images: int = 0,
        dtype: str = "fp32",
        compare: bool = False,
    ) -> None:
        """Time the variants of one case and print a row for each.

        labels: entries of each row. flops, bytes_moved, images: of one call, for shares and rates.
        compare: whether to compute the deviation from the first variant's result. If a variant
        raises an error, its row holds the error's message.
        """
        # Call each variant to warm up, and measure its memory.
        alive: dict[str, float] = {}
        problems: dict[str, str] = {}
        peaks: dict[str, int] = {}
        deviations: dict[str, dict[str, float]] = {}
        expected: torch.Tensor | None = None
        for name, call in variants.items():
            try:
                result = call()
                if compare and isinstance(result, torch.Tensor):
                    expected = result.float() if expected is None else expected
                    deviations[name] = {
                        "deviation": float(
                            (result - expected).abs().max() / expected.square().mean().sqrt()
                        )
                    }
                del result
                self.once(call)
                peaks[name] = self.peak_bytes(call)
                alive[name] = max(self.once(call), 1e-7)
            except RuntimeError as error:  # of memory, a launch, a capture or a compilation
                problems[name] = _problem(error)

        # Time the variants in turn. Repeat short calls, because the clock has a limited resolution.
        rounds = max(3, min(self.rounds, int(self.seconds / max(sum(alive.values()), 1e-7))))
        repeats = {name: max(1, min(100, int(0.002 / seconds))) for name, seconds in alive.items()}
        times: dict[str, list[float]] = {name: [] for name in alive}
        busy: dict[str, list[float]] = {name: [] for name in alive}
        for _ in range(rounds):
            for name in alive:

                def many(name=name):
                    for _ in range(repeats[name]):
                        variants[name]()

                before = time.process_time()
                times[name].append(self.once(many) / repeats[name])
                busy[name].append((time.process_time() - before) / repeats[name])

        # Add the rows.
        limit = self.limit_s(flops, bytes_moved, dtype) if alive else 0.0
        for name in variants:
            row = labels | {"dtype": dtype, "variant": name}
            if name in problems:
                self.add(row | {"problem": problems[name]})
                continue
            time_s = self.chosen(times, busy, name)
            row |= {"rounds": rounds} | self.figures(times, busy, name)
            row |= {"peak_mib": peaks[name] / 2**20}
            row |= {"gflop": flops / 1e9, "gbyte": bytes_moved / 1e9}
            row |= {"share_of_limit": limit / time_s} | deviations.get(name, {})
            self.add(row | ({"ms_per_image": time_s * 1e3 / images} if images else {}))
        self.write()

    def chosen(
        self, times: dict[str, list[float]], busy: dict[str, list[float]], name: str
    ) -> float:
        """The seconds for shares and ratios: processor time with one CPU thread, else elapsed."""
        single = self.device.type == "cpu" and torch.get_num_threads() == 1
        return statistics.median((busy if single else times)[name])

    def figures(
        self, times: dict[str, list[float]], busy: dict[str, list[float]], name: str
    ) -> dict[str, float]:
        low, _, high = statistics.quantiles(times[name], n=4)
        cpu = {"cpu_ms": statistics.median(busy[name]) * 1e3} if self.device.type == "cpu" else {}
        first = self.chosen(times, busy, next(iter(times)))
        return (
            {
                "ms": statistics.median(times[name]) * 1e3,
                "spread": (high - low) / statistics.median(times[name]),
            }
            | cpu
            | {"speedup": first / self.chosen(times, busy, name)}
        )

    def add(self, row: dict) -> None:
        self.rows.append(row)
        click.echo(
            "  ".join(
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in row.items()
            )
        )

    def peak_bytes(self, call: Callable[[], object]) -> int:
        """The most memory in bytes that one call adds.

        On CUDA it is that of PyTorch's allocator, on CPUs the resident set (Linux only, else 0).
        """
        if self.device.type == "cuda":
            self.sync()
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            call()
            self.sync()
            return torch.cuda.max_memory_allocated(self.device) - before
        if not Path("/proc/self/statm").exists():
            return 0
        seen, stop = [_resident()], threading.Event()

        def watch():
            while not stop.wait(0.001):
                seen.append(_resident())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            call()
        finally:
            stop.set()
            thread.join()
        return max(seen) - seen[0]

    def limit_s(self, flops: float, bytes_moved: float, dtype: str) -> float:
        """The least seconds in which this machine can move and compute that much."""
        if not self.ceilings:
            self.ceilings["bytes_per_s"] = self._copy_rate()
        if dtype not in self.ceilings:
            self.ceilings[dtype] = self._gemm_rate(DTYPES[dtype])
        return max(flops / self.ceilings[dtype], bytes_moved / self.ceilings["bytes_per_s"])

    def fastest(self, call: Callable[[], object]) -> float:
        """The least time of five calls, in the seconds of `chosen`."""

        def one() -> float:
            before = time.process_time()
            wall = self.once(call)
            return self.chosen({"": [wall]}, {"": [time.process_time() - before]}, "")

        return min(one() for _ in range(5))

    def _copy_rate(self) -> float:
        source = torch.rand((256 if self.device.type == "cuda" else 32) << 20, device=self.device)
        target = torch.empty_like(source)
        return 2 * source.nbytes / self.fastest(lambda: target.copy_(source))

    def _gemm_rate(self, dtype: torch.dtype) -> float:
        side = 8192 if self.device.type == "cuda" else 1024
        a, b = (torch.randn(side, side, device=self.device).to(dtype) for _ in range(2))
        return 2 * side**3 / self.fastest(lambda: a @ b)

    def write(self) -> None:
        """Write all rows so far, if --json is given."""
        record = {
            "benchmark": self.title,
            "date": datetime.date.today().isoformat(),
            "machine": machine(self.device),
            "arguments": {
                key: str(value) for key, value in self.arguments.items() if key != "json_path"
            },
            "ceilings": self.ceilings,
            "rows": self.rows,
        }
        if self.path:
            write_json(self.path, record, ours=RECORD)


def _problem(error: RuntimeError) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory_mib(field: str) -> float:
    """Resident memory of this process: VmRSS is that of now, VmHWM the largest so far. Linux only.

    Both are whole KiB.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status holds no {field}; this benchmark needs Linux")


def reset_peak_memory() -> None:
    """Let VmHWM start again at the memory of now. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")


def machine(device: torch.device) -> dict:
    """What a record says of the machine and of the code that it ran."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load": os.getloadavg()[0],
        "commit": commit(),
    }


def commit() -> str:
    """The git commit of this code, with '-dirty' after changes; empty outside a clone."""
    if not shutil.which("git"):
        return ""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
