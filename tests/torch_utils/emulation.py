"""The CUDA sources compiled as plain C++ with `torch_utils/ops/cuda/emulate.h`, called through ctypes on CPU tensors."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

import torch_utils.ops

OPS = Path(torch_utils.ops.__file__).parent
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
TF32 = 3


def compiler() -> str | None:
    return shutil.which("c++")


def library(source: str | Path) -> ctypes.CDLL:
    """Compile a `.cu` file, named from `torch_utils/ops` on; kept under the hash of all sources."""
    path = OPS / source
    parts = sorted(file for file in OPS.rglob("cuda/*") if file.is_file())
    text = b"".join(part.read_bytes() for part in [path, *parts])
    name = f"eidgan-emulated-{path.stem}-{hashlib.sha256(text).hexdigest()[:16]}.so"
    target = Path(tempfile.gettempdir()) / name
    if not target.exists():
        part = target.with_suffix(f".{id(text)}.part")
        subprocess.run([compiler(), "-O1", "-std=c++17", "-shared", "-fPIC", "-w", f"-I{OPS}",
                        "-x", "c++", str(path), "-o", str(part)], check=True)
        part.replace(target)
    return ctypes.CDLL(str(target))


class Configuration(ctypes.Structure):
    _fields_ = [("dtype", ctypes.c_int), ("num_widths", ctypes.c_int), ("widths", ctypes.c_int * 8),
                ("num_refinement", ctypes.c_int), ("refinement", ctypes.c_int * 4)]

    def __init__(self, dtype: int, widths, refinement=()):
        super().__init__(dtype, len(widths), (ctypes.c_int * 8)(*widths), len(refinement), (ctypes.c_int * 4)(*refinement))


def structure(*fields) -> type[ctypes.Structure]:
    """A C struct of (name, type) pairs: p pointer, i int, l int64, f float, levels 16 pointers."""
    kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_int64, "f": ctypes.c_float,
             "levels": ctypes.c_void_p * 16}
    return type("Params", (ctypes.Structure,), {"_fields_": [(name, kinds[kind]) for name, kind in fields]})


def call(function, *arguments) -> None:
    function.restype = ctypes.c_char_p
    problem = function(*arguments, None)
    assert problem is None, problem


def poisoned(*shape, dtype=torch.float32) -> torch.Tensor:
    return torch.full(shape, float("nan"), dtype=dtype)
