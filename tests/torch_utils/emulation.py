"""The CUDA sources compiled as plain C++ and called through ctypes on CPU tensors.

`torch_utils/ops/cuda/emulate.h` stands in for CUDA.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

import torch_utils.ops

OPS = Path(torch_utils.ops.__file__).parent
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
TF32 = 3
CHECKER = Path(__file__).with_name("race_checker.cpp")
# The compiler inserts calls at loads, stores and misaligned accesses, and keeps line numbers.
HOOKS = ["-fsanitize=thread,alignment", "-g1"]
MARGIN = 4096  # bytes; kMargin of emulate.h


def compiler() -> str:
    """The path of the host's C++ compiler, "" if there is none."""
    return shutil.which("c++") or ""


@functools.cache
def race_checker_problem() -> str | None:
    """Why this compiler cannot build the kernels with hooks on loads and stores; None = it can."""
    if not compiler():
        return "no C++ compiler"
    done = subprocess.run(
        [compiler(), *HOOKS, "-c", "-x", "c++", "-", "-o", os.devnull],
        input="int main() {}",
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{compiler()} does not take {' '.join(HOOKS)}" if done.returncode else None


def built(path: Path, *options: str) -> str:
    """Compile a file to an object (-c) or a library (-shared), unless a kept result is current.

    Results are kept in the system's temporary folder under a hash of all sources.
    """
    parts = [path, *sorted(part for part in OPS.rglob("cuda/*") if part.is_file())]
    text = b"".join(part.read_bytes() for part in parts)
    text += " ".join((torch.__version__, *options)).encode()
    stem, key = path.stem.removeprefix("eidgan-"), hashlib.sha256(text).hexdigest()[:16]
    kept = Path(tempfile.gettempdir()) / f"eidgan-{stem}-{key}.{'o' if '-c' in options else 'so'}"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes run tests, but one compiles
        if not kept.exists():
            part = kept.with_suffix(".part")
            common = [compiler(), "-std=c++17", "-fPIC", "-w", f"-I{OPS}"]
            subprocess.run([*common, *options, str(path), "-o", str(part)], check=True)
            part.replace(kept)
    return str(kept)


def library(source: str | Path, checked: bool = False) -> ctypes.CDLL:
    """Compile a `.cu` file for the host and load it; its path is relative to `torch_utils/ops`.

    checked: compile with hooks on loads and stores, and link the race checker, which serves them.
    """
    path = OPS / source
    if not checked:
        return ctypes.CDLL(built(path, "-O1", "-shared", "-x", "c++"))
    kernels, checker = built(path, "-O1", *HOOKS, "-c", "-x", "c++"), built(CHECKER, "-O2", "-c")
    # Linked without the sanitizers' flags, so that the sanitizers' runtime libraries stay out.
    return ctypes.CDLL(built(Path(kernels), checker, "-shared"))


class Checked:
    """A source under the race checker. `kernels` holds its functions; `tensor` makes tensors."""

    def __init__(self, source: str | Path):
        self.kernels = library(source, checked=True)
        self.kernels.eidgan_problems.restype = ctypes.c_char_p
        self.kernels.eidgan_problems()  # clears the problems of the test before
        self._kept: list[torch.Tensor] = []

    def tensor(self, x: torch.Tensor) -> torch.Tensor:
        """A copy of x that kernels may access, between bytes that they may not access."""
        count = x.numel() * x.element_size()
        space = torch.zeros(count + 2 * MARGIN, dtype=torch.uint8)
        copy = space[MARGIN : MARGIN + count].view(x.dtype).view(x.shape)
        copy.copy_(x)
        self._kept.append(copy)
        self.kernels.eidgan_watch(ctypes.c_void_p(copy.data_ptr()), ctypes.c_size_t(count))
        return copy

    def problems(self) -> list[str]:
        """The problems since the last call; with file and line if addr2line is installed."""
        text = self.kernels.eidgan_problems().decode()
        reports = [line.split("\t") for line in text.splitlines()]
        places = [f"{int(offset):#x}" for _, offset in reports]
        tool = shutil.which("addr2line")
        if tool and reports:
            done = subprocess.run(
                [tool, "-e", self.kernels._name, *places],
                capture_output=True,
                text=True,
                check=True,
            )
            places = [
                place.removeprefix(f"{OPS}/").partition(" (")[0]
                for place in done.stdout.splitlines()
            ]
        self._kept.clear()
        return sorted(
            {f"{what} at {place}" for (what, _), place in zip(reports, places, strict=True)}
        )


class Configuration(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int),
        ("num_widths", ctypes.c_int),
        ("widths", ctypes.c_int * 8),
        ("num_refinement", ctypes.c_int),
        ("refinement", ctypes.c_int * 4),
    ]

    def __init__(self, dtype: int, widths, refinement=()):
        super().__init__(
            dtype,
            len(widths),
            (ctypes.c_int * 8)(*widths),
            len(refinement),
            (ctypes.c_int * 4)(*refinement),
        )


def structure(*fields) -> type[ctypes.Structure]:
    """A C struct of (name, type) pairs: p pointer, i int, l int64, f float, levels 16 pointers."""
    kinds = {
        "p": ctypes.c_void_p,
        "i": ctypes.c_int,
        "l": ctypes.c_int64,
        "f": ctypes.c_float,
        "levels": ctypes.c_void_p * 16,
    }
    return type(
        "Params", (ctypes.Structure,), {"_fields_": [(name, kinds[kind]) for name, kind in fields]}
    )


def call(function, *arguments) -> None:
    """Call an emulated kernel on the default stream and check that it reports no problem."""
    function.restype = ctypes.c_char_p
    problem = function(*arguments, None)
    assert problem is None, problem


def poisoned(*shape, dtype=torch.float32) -> torch.Tensor:
    """An output buffer of NaN, so that an element that a kernel does not write is seen."""
    return torch.full(shape, float("nan"), dtype=dtype)
