"""The CUDA toolkit of this machine, and the architectures to compile for.

`torch.utils.cpp_extension` takes the folder above nvcc on PATH for the toolkit, which is wrong
where that nvcc is a script. It compiles for TORCH_CUDA_ARCH_LIST or the visible GPUs as they are,
so the compiler fails at a GPU that is newer than it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

OLDEST = 80  # compute capability times 10
# torch's names for architectures, as TORCH_CUDA_ARCH_LIST takes them.
NAMES = {
    "Kepler": "3.5",
    "Maxwell": "5.0",
    "Pascal": "6.0",
    "Volta": "7.0",
    "Turing": "7.5",
    "Ampere": "8.0;8.6+PTX",
    "Ampere+Tegra": "8.7",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
    "Blackwell+Tegra": "11.0",
}


class BuildError(RuntimeError):
    """A plugin could not be built or loaded. The message says why, and what to do."""


def cuda_home() -> Path:
    """The folder of the CUDA toolkit: CUDA_HOME or CUDA_PATH, else that of nvcc on PATH.

    Raises `BuildError`.
    """
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        folder = os.environ.get(variable)
        if folder and (Path(folder) / "bin/nvcc").exists():
            return Path(folder)
    nvcc = shutil.which("nvcc")
    candidates = []
    if nvcc:
        # nvcc on PATH may be a link or a script that calls the real one: ask it.
        asked = subprocess.run(
            [nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False
        ).stderr
        candidates += [Path(match) for match in re.findall(r"#\$ _HERE_=(.*)", asked)]
        candidates.append(Path(nvcc).resolve().parent)
    candidates.append(Path("/usr/local/cuda/bin"))
    for folder in candidates:
        if (folder / "nvcc").exists() and (folder.parent / "include/cuda_runtime.h").exists():
            return folder.parent
    raise BuildError(
        "no CUDA compiler: nvcc was not found; install the CUDA toolkit of torch's CUDA "
        f"{torch.version.cuda} or set CUDA_HOME to its folder"
    )


def compiler_version(home: Path) -> tuple[int, int]:
    text = subprocess.run(
        [home / "bin/nvcc", "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"release (\d+)\.(\d+)", text)
    if found is None:
        raise BuildError(
            f"{home / 'bin/nvcc'} --version says nothing that can be read; reinstall the CUDA "
            "toolkit"
        )
    return int(found[1]), int(found[2])


def known_architectures(home: Path) -> list[int]:
    """Compute capabilities times 10 that the compiler can make code for, ascending."""
    text = subprocess.run(
        [home / "bin/nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=False
    ).stdout
    known = sorted({int(number) for number in re.findall(r"compute_(\d+)\b", text)})
    if not known:
        raise BuildError(
            f"{home / 'bin/nvcc'} --list-gpu-arch lists nothing; a CUDA toolkit of 11.5 or newer "
            "is needed"
        )
    return known


def wanted_architectures(known: Sequence[int], arch: str | None = None) -> list[str]:
    """The values of nvcc's -gencode for `arch`, such as `8.0;9.0+PTX` or `Ampere;Hopper`.

    Without `arch`, those of TORCH_CUDA_ARCH_LIST, else of the visible GPUs. Containers set the
    variable for torch, so architectures in it that are too old for the kernels are left out with a
    warning. Raises `BuildError` where none is left or named.
    """
    listed = "" if arch else os.environ.get("TORCH_CUDA_ARCH_LIST") or ""
    wanted = _parsed(arch or listed) or [
        (major * 10 + minor, False) for major, minor in visible_capabilities()
    ]
    if not wanted:
        raise BuildError(
            'no GPU is visible and no architecture is named; use --arch "8.0;9.0" or '
            "TORCH_CUDA_ARCH_LIST"
        )
    old = [f"{number / 10}" for number, _ in wanted if number < OLDEST]
    if old and (not listed or len(old) == len(wanted)):
        raise BuildError(
            f"compute capability {', '.join(old)} is too old: the kernels need 8.0 (Ampere) or "
            "newer"
        )
    if old:
        warnings.warn(
            f"TORCH_CUDA_ARCH_LIST={listed}: {', '.join(old)} left out, the kernels need 8.0 "
            "(Ampere) or newer",
            RuntimeWarning,
            stacklevel=2,
        )
    values = []
    for number, ptx in wanted:
        if number < OLDEST:
            continue
        if (
            number not in known
        ):  # newer than the compiler: the driver compiles PTX of the nearest older architecture
            number, ptx = max((k for k in known if k < number), default=known[0]), True
            values.append(f"arch=compute_{number},code=compute_{number}")
            continue
        values.append(f"arch=compute_{number},code=sm_{number}")
        if ptx:
            values.append(f"arch=compute_{number},code=compute_{number}")
    return sorted(set(values))


def _parsed(text: str) -> list[tuple[int, bool]]:
    """Architectures by number or name -> (compute capability times 10, with PTX)."""
    wanted = []
    for part in ";".join(
        NAMES.get(part, part) for part in re.split(r"[;, ]+", text.strip()) if part
    ).split(";"):
        found = re.fullmatch(r"(\d+)\.(\d)[af]?(\+PTX)?", part)
        if part and found is None:
            raise BuildError(
                f"architecture {part!r} is not of the form 9.0, 9.0+PTX or Hopper; mend --arch or "
                "TORCH_CUDA_ARCH_LIST"
            )
        if found:
            wanted.append((int(found[1]) * 10 + int(found[2]), bool(found[3])))
    return wanted


def visible_capabilities() -> list[tuple[int, int]]:
    if not torch.cuda.is_available():
        return []
    return sorted({torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())})
