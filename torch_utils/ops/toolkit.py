"""The CUDA toolkit of this machine, and the architectures to compile for.

`torch.utils.cpp_extension` takes the folder above nvcc on PATH as the toolkit, which is wrong if
that nvcc is a script. It compiles for exactly the architectures of TORCH_CUDA_ARCH_LIST or of the
visible GPUs, so the compilation fails for a GPU that is newer than the compiler.
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
    """A plugin could not be built or loaded. The message gives the reason and the remedy."""


def cuda_home() -> Path:
    """The folder of the CUDA toolkit: CUDA_HOME or CUDA_PATH, else that of nvcc on PATH.

    Raises `BuildError` if there is no toolkit.
    """
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        folder = os.environ.get(variable)
        if folder and (Path(folder) / "bin/nvcc").exists():
            return Path(folder)
    nvcc = shutil.which("nvcc")
    candidates = []
    if nvcc:
        # nvcc on PATH may be a link or a script that calls the compiler. A dry run prints the
        # compiler's folder.
        dry_run = _run(nvcc, "--dryrun", "-x", "cu", os.devnull).stderr
        candidates += [Path(match) for match in re.findall(r"#\$ _HERE_=(.*)", dry_run)]
        candidates.append(Path(nvcc).resolve().parent)
    candidates.append(Path("/usr/local/cuda/bin"))
    for folder in candidates:
        if (folder / "nvcc").exists() and (folder.parent / "include/cuda_runtime.h").exists():
            return folder.parent
    raise BuildError(
        "no CUDA compiler: nvcc was not found; install the CUDA toolkit of torch's CUDA "
        f"{torch.version.cuda} or set CUDA_HOME to its folder"
    )


def _run(nvcc: str | Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What nvcc prints. Raises `BuildError` if this machine cannot start it."""
    try:
        return subprocess.run(
            [nvcc, *words], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise BuildError(
            f"{nvcc} does not start ({error.strerror}); reinstall the CUDA toolkit, or set "
            "CUDA_HOME to another one"
        ) from error


def compiler_version(home: Path) -> tuple[int, int]:
    """(major, minor) version of nvcc in the toolkit `home`. Raises `BuildError`."""
    text = _run(home / "bin/nvcc", "--version").stdout
    match = re.search(r"release (\d+)\.(\d+)", text)
    if match is None:
        raise BuildError(
            f"{home / 'bin/nvcc'} --version prints no version; reinstall the CUDA toolkit"
        )
    return int(match[1]), int(match[2])


def known_architectures(home: Path) -> list[int]:
    """Compute capabilities times 10 for which nvcc in the toolkit `home` compiles, ascending.

    Raises `BuildError` if nvcc lists none.
    """
    text = _run(home / "bin/nvcc", "--list-gpu-arch").stdout
    known = sorted({int(number) for number in re.findall(r"compute_(\d+)\b", text)})
    if not known:
        raise BuildError(
            f"{home / 'bin/nvcc'} --list-gpu-arch lists nothing; a CUDA toolkit of 11.5 or newer "
            "is needed"
        )
    return known


def wanted_architectures(known: Sequence[int], arch: str | None = None) -> list[str]:
    """The values of nvcc's -gencode for the architectures to compile for.

    known: the result of `known_architectures`. arch: architectures such as `8.0;9.0+PTX` or
    `Ampere;Hopper`; None = those of TORCH_CUDA_ARCH_LIST, or else of the visible GPUs.

    Containers set TORCH_CUDA_ARCH_LIST for torch. So architectures in it that are too old for the
    kernels are left out with a warning. Raises `BuildError` if no architecture is given, one in
    `arch` is too old, or all are.
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
        if number not in known:
            # The GPU is newer than the compiler. The driver compiles PTX of the nearest older
            # architecture for it.
            number = max((k for k in known if k < number), default=known[0])
            values.append(f"arch=compute_{number},code=compute_{number}")
            continue
        values.append(f"arch=compute_{number},code=sm_{number}")
        if ptx:
            values.append(f"arch=compute_{number},code=compute_{number}")
    return sorted(set(values))


def _parsed(text: str) -> list[tuple[int, bool]]:
    """Parse architectures, given by number or name -> [(compute capability times 10, with PTX)]."""
    wanted = []
    parts = (part for part in re.split(r"[;, ]+", text.strip()) if part)
    for part in ";".join(NAMES.get(part, part) for part in parts).split(";"):
        match = re.fullmatch(r"(\d+)\.(\d)[af]?(\+PTX)?", part)
        if part and match is None:
            raise BuildError(
                f"architecture {part!r} is not of the form 9.0, 9.0+PTX or Hopper; "
                "correct --arch or TORCH_CUDA_ARCH_LIST"
            )
        if match:
            wanted.append((int(match[1]) * 10 + int(match[2]), bool(match[3])))
    return wanted


def visible_capabilities() -> list[tuple[int, int]]:
    """Compute capabilities (major, minor) of the visible GPUs, ascending; [] without a GPU."""
    if not torch.cuda.is_available():
        return []
    return sorted({torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())})
