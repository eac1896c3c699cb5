"""Makes PyTorch believe in two CUDA devices on a machine that has none."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from tests.stand_in_gpu import collectives
from tests.stand_in_gpu.dispatch import CPU, wrapped

NUM_DEVICES = 2  # kNumDevices in device.cpp
GIB = 1 << 30
SOURCE = Path(__file__).with_name("device.cpp")
LIBRARY = torch.library.Library("aten", "IMPL")


def library() -> Path:
    """device.cpp compiled against this PyTorch; kept in the temporary folder under its hash."""
    key = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    target = Path(tempfile.gettempdir()) / f"eidgan-stand-in-gpu-{key}.so"
    if not target.exists():
        root = Path(torch.__file__).parent
        part = target.with_suffix(f".{os.getpid()}.part")
        subprocess.run(
            [
                "c++",
                "-O0",
                "-std=c++20",
                "-shared",
                "-fPIC",
                "-w",
                f"-I{root / 'include'}",
                f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
                str(SOURCE),
                "-o",
                str(part),
                f"-L{root / 'lib'}",
                "-ltorch_cpu",
                "-lc10",
            ],
            check=True,
        )
        part.replace(target)
    return target


def install() -> None:
    """From here on this process, and what it forks, has the devices. There is no way back."""
    ctypes.CDLL(str(library())).stand_in_install()
    torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor(..., device="cuda") copies
    _replace_driver()
    with warnings.catch_warnings(action="ignore"):  # older versions tell that a kernel is replaced
        # All other operators that make a tensor from nothing call one of these two.
        LIBRARY.impl("empty.memory_format", _empty, "CUDA", allow_override=True)
        LIBRARY.impl("empty_strided", _empty_strided, "CUDA", allow_override=True)
    collectives.install()


def _empty(size, *, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    return wrapped(torch.empty(size, dtype=dtype, device=CPU, memory_format=memory_format), device)


def _empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
    return wrapped(torch.empty_strided(size, stride, dtype=dtype, device=CPU), device)


def _replace_driver() -> None:
    """What is below `torch.cuda`. Its Python part stays, with all checks of arguments."""
    cuda = torch.cuda
    begun_before_fork: list[bool] = []
    os.register_at_fork(after_in_child=lambda: begun_before_fork.append(cuda._initialized))
    python = {
        "_is_in_bad_fork": lambda: any(begun_before_fork),
        "_cudart": cuda._cudart or SimpleNamespace(),  # None in a PyTorch without CUDA
        "_get_device_properties": _properties,
        "_exchange_device": torch._C._accelerator_exchangeDevice,
        "_maybe_exchange_device": torch._C._accelerator_maybeExchangeDevice,
        "default_generators": tuple(torch.Generator() for _ in range(NUM_DEVICES)),
    }
    for name, value in python.items():
        setattr(cuda, name, value)
    setattr(cuda.graphs, "_cuda_isCurrentStreamCapturing", lambda: False)  # noqa: B010
    functions = {
        "init": lambda: None,
        "getDeviceCount": lambda: NUM_DEVICES,
        "getDevice": torch._C._accelerator_getDeviceIndex,
        "setDevice": torch._C._accelerator_setDeviceIndex,
        "synchronize": lambda: None,
        "emptyCache": lambda: None,
        "memoryStats": _memory_stats,
        "resetPeakMemoryStats": lambda index: None,
        "getArchFlags": getattr(torch._C, "_cuda_getArchFlags", lambda: "sm_90"),
    }
    for name, function in functions.items():
        setattr(torch._C, f"_cuda_{name}", function)


def _properties(index: int) -> SimpleNamespace:
    major, minor = map(int, os.environ.get("STAND_IN_CAPABILITY", "9.0").split("."))
    return SimpleNamespace(
        name="Stand-in GPU",
        major=major,
        minor=minor,
        total_memory=80 * GIB,
        multi_processor_count=132,
    )


def _memory_stats(index: int) -> dict[str, Any]:
    """3 GiB at the peak on the first device, 4 on the second: asking the wrong one shows."""
    return {"allocated_bytes": {"all": {"current": GIB, "peak": (3 + index) * GIB}}}
