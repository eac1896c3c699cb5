"""Builds and finds the CUDA plugins, on first use or ahead of time:

    python -m torch_utils.ops.build --arch "8.0;9.0"

A plugin is `<op>/cuda/*.cpp` (torch headers, no device code) and `*.cu` (device code, no torch
headers). `torch.utils.cpp_extension` compiles and links it with ninja. This module does what
`cpp_extension` does not do:
- Find the CUDA toolkit where nvcc on PATH is a script that calls the real nvcc (`toolkit.py`).
- Choose architectures: a GPU newer than the compiler gets PTX of the newest architecture that the
  compiler knows, and GPUs that are too old for the kernels are refused (`toolkit.py`).
- Load a library that was built before, on this machine or another, where no compiler is installed.
  Libraries lie in a cache folder that is named by a hash of sources, flags and torch; below it, by
  compiler and architectures.
- Put a library in place in one step, and wait for another process's build no longer than a limit.
- Say in a few lines what went wrong, and the remedy.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from dnnlib.files import user_cache_folder
from torch_utils.ops.toolkit import (
    BuildError,
    compiler_version,
    cuda_home,
    known_architectures,
    visible_capabilities,
    wanted_architectures,
)

OPS = Path(__file__).parent
PLUGINS = {"modulated_linear": OPS / "modulated_linear" / "cuda", "biline": OPS / "biline" / "cuda"}
LOCK_TIMEOUT_S = 600
CXX_FLAGS = ["-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-w"]
NVCC_FLAGS = [
    "-std=c++17",
    "-O3",
    "--expt-relaxed-constexpr",
    "-Xcompiler",
    "-fPIC",
    "-Xcompiler",
    "-fvisibility=hidden",
]


# The message of an error holds what the compilers printed.
_LOAD = """
import json, sys
from torch.utils.cpp_extension import load
try:
    load(**json.loads(sys.argv[1]))
except (RuntimeError, OSError) as error:
    sys.exit(str(error))
"""


def cache_root() -> Path:
    """`plugins` in EIDGAN_CACHE, else in the user's cache folder."""
    return Path(os.environ.get("EIDGAN_CACHE") or user_cache_folder()) / "plugins"


def sources(name: str) -> list[Path]:
    """Every file that a plugin is made of, headers included."""
    shared = [path for path in (OPS / "cuda").glob("*") if path.is_file()]
    return sorted(
        [
            *shared,
            *(path for path in PLUGINS[name].glob("*") if path.suffix in (".h", ".cpp", ".cu")),
        ]
    )


def source_folder(name: str) -> Path:
    """The folder for builds of these sources, flags, torch and CUDA version, and of no others."""
    key = hashlib.sha256()
    facts = [
        torch.__version__,
        str(torch.version.cuda),
        sys.platform,
        platform.machine(),
        *CXX_FLAGS,
        *NVCC_FLAGS,
    ]
    for part in [
        *facts,
        *(f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in sources(name)),
    ]:
        key.update(part.encode() + b"\0")
    return cache_root() / f"{name}-{key.hexdigest()[:16]}"


def plugin_path(name: str, home: Path, architectures: Sequence[str]) -> Path:
    """The library by this compiler for these architectures: .../nvcc13.0-sm_80-sm_90/NAME.so."""
    version = "nvcc" + ".".join(map(str, compiler_version(home)))
    return (
        source_folder(name)
        / "-".join([version, *(arch.split("code=")[1] for arch in architectures)])
        / f"{name}.so"
    )


def built(name: str, capabilities: Sequence[tuple[int, int]]) -> Path | None:
    """A library in the cache that runs on GPUs of all these capabilities. Needs no compiler."""

    def runs(target: str, capability: tuple[int, int]) -> bool:
        kind, number = target.split("_")
        if kind == "compute":  # PTX, which the driver compiles for anything newer
            return int(number) <= capability[0] * 10 + capability[1]
        return divmod(int(number), 10) <= capability and int(number) // 10 == capability[0]

    for library in sorted(source_folder(name).glob(f"*/{name}.so")):
        targets = library.parent.name.split("-")[1:]
        if capabilities and all(
            any(runs(target, one) for target in targets) for one in capabilities
        ):
            return library
    return None


def build(name: str, arch: str | None = None) -> Path:
    """The plugin's shared library, built if it is not there. Raises `BuildError`."""
    if torch.version.cuda is None:
        raise BuildError("this PyTorch is built without CUDA; install a CUDA build of torch")
    home = cuda_home()
    major, minor = compiler_version(home)
    if str(major) != torch.version.cuda.split(".")[0]:
        raise BuildError(
            f"nvcc in {home} is of CUDA {major}.{minor}, this PyTorch of CUDA "
            f"{torch.version.cuda}: the first number must be the same; set CUDA_HOME to a toolkit "
            f"of torch's, or install a torch built for CUDA {major}"
        )
    architectures = wanted_architectures(known_architectures(home), arch)
    library = plugin_path(name, home, architectures)
    if library.exists():
        return library
    ninja = find_ninja()
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(library.parent / "lock", timeout=LOCK_TIMEOUT_S):
            if not library.exists():
                _compile(name, home, architectures, library, ninja)
    except Timeout as error:
        raise BuildError(
            f"{error.lock_file}: another process has been building for {LOCK_TIMEOUT_S} s; end it "
            "and try again"
        ) from None
    except (OSError, NotImplementedError) as error:  # the second: a disk without locks
        raise BuildError(
            f"{library.parent}: {getattr(error, 'strerror', None) or error}; set EIDGAN_CACHE to a "
            "folder that can be written"
        ) from error
    return library


def load(name: str) -> None:
    """Bind a plugin's kernels to the registered operators, built if needed. Raises `BuildError`."""
    visible = visible_capabilities()
    library = built(name, visible) or build(name)
    if visible and not any(built(name, [one]) for one in visible):
        raise BuildError(
            f"TORCH_CUDA_ARCH_LIST={os.environ.get('TORCH_CUDA_ARCH_LIST')} has nothing that runs "
            "on the visible GPUs of "
            f"{', '.join(f'{major}.{minor}' for major, minor in visible)}; add them, or unset it"
        )
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise BuildError(
            f"{library} does not load: {str(error).splitlines()[0]}; delete its folder to build it "
            "again"
        ) from error


def find_ninja() -> str:
    try:
        import ninja

        packaged = Path(ninja.BIN_DIR) / "ninja"
        if packaged.exists():
            return str(packaged)
    except ImportError:
        pass
    on_path = shutil.which("ninja")
    if on_path is None:
        raise BuildError("ninja was not found; pip install ninja")
    return on_path


def _compile(
    name: str, home: Path, architectures: Sequence[str], library: Path, ninja: str
) -> None:
    """Compiles in another process: `cpp_extension` reads CUDA_HOME when it is imported, and loads
    the library that it has built.
    """
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        options = {
            "name": name,
            "sources": [str(path) for path in sources(name) if path.suffix in (".cpp", ".cu")],
            "extra_cflags": CXX_FLAGS,
            "extra_cuda_cflags": [*NVCC_FLAGS, *(f"-gencode={one}" for one in architectures)],
            "extra_include_paths": [str(OPS)],
            "build_directory": folder,
            "is_python_module": False,
        }
        path = os.pathsep.join([str(Path(ninja).parent), os.environ.get("PATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", _LOAD, json.dumps(options)],
            env=os.environ | {"CUDA_HOME": str(home), "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            log = library.parent / "failure.log"
            log.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise BuildError(_explain(name, done.stdout + done.stderr, log))
        os.replace(Path(folder) / f"{name}.so", library)


def _explain(name: str, output: str, log: Path) -> str:
    """The first lines in which a compiler complains, and what to try."""
    lines = [
        line
        for line in output.splitlines()
        if re.search(r"error:|fatal|not found|cannot find|undefined symbol", line, re.IGNORECASE)
    ]
    shown = "\n  ".join((lines or output.splitlines())[:4])
    return (
        f"plugin {name} did not compile:\n  {shown}\nThe whole output is in {log}. Needed: a C++20 "
        f"compiler (set CXX), and nvcc of torch's CUDA {torch.version.cuda}; python doctor.py "
        "shows what was found. --ops ref works without"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m torch_utils.ops.build", description="Build the CUDA plugins ahead of time."
    )
    parser.add_argument(
        "--arch",
        metavar="LIST",
        help='compute capabilities, for example "8.0;9.0" or "9.0+PTX"; default: '
        "TORCH_CUDA_ARCH_LIST, else the visible GPUs",
    )
    arch = parser.parse_args().arch
    try:
        for name in PLUGINS:
            print(build(name, arch), flush=True)
    except BuildError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
