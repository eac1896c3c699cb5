"""Builds the CUDA plugins with ninja: `python -m torch_utils.ops.build --arch "8.0;9.0"` ahead of time, else on first use.

A plugin is `<op>/cuda/*.cpp` (torch headers, no device code) and `*.cu` (device code, no torch headers). The result lies
in a cache folder named by a hash of sources, flags and torch, then by compiler and architectures; a lock with a timeout keeps
processes apart. What is built is TORCH_CUDA_ARCH_LIST, else the visible GPUs; what is loaded is any build that runs on them,
so a machine without a compiler can use what was built ahead. A GPU newer than the compiler gets PTX of the highest
architecture that the compiler knows.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dnnlib.files import user_cache_folder

OPS = Path(__file__).parent
PLUGINS = {"modulated_linear": OPS / "modulated_linear" / "cuda", "biline": OPS / "biline" / "cuda"}
LOCK_TIMEOUT_S = 600
OLDEST = 80  # compute capability times 10
# torch's names for architectures, as TORCH_CUDA_ARCH_LIST takes them.
NAMES = {"Kepler": "3.5", "Maxwell": "5.0", "Pascal": "6.0", "Volta": "7.0", "Turing": "7.5", "Ampere": "8.0;8.6+PTX",
         "Ampere+Tegra": "8.7", "Ada": "8.9+PTX", "Hopper": "9.0+PTX", "Blackwell": "10.0;10.3;12.0;12.1+PTX", "Blackwell+Tegra": "11.0"}
CXX_FLAGS = ["-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-w"]
NVCC_FLAGS = ["-std=c++17", "-O3", "--expt-relaxed-constexpr", "-Xcompiler", "-fPIC", "-Xcompiler", "-fvisibility=hidden"]


class BuildError(RuntimeError):
    """A plugin could not be built or loaded; the message is one readable paragraph with the remedy."""


def cuda_home() -> Path:
    """The toolkit's folder: CUDA_HOME or CUDA_PATH, else where nvcc on PATH says that it lives. Raises `BuildError`."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        folder = os.environ.get(variable)
        if folder and (Path(folder) / "bin/nvcc").exists():
            return Path(folder)
    nvcc = shutil.which("nvcc")
    candidates = []
    if nvcc:
        # nvcc on PATH may be a link or a script that calls the real one: ask it.
        asked = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False).stderr
        candidates += [Path(match) for match in re.findall(r"#\$ _HERE_=(.*)", asked)]
        candidates.append(Path(nvcc).resolve().parent)
    candidates.append(Path("/usr/local/cuda/bin"))
    for folder in candidates:
        if (folder / "nvcc").exists() and (folder.parent / "include/cuda_runtime.h").exists():
            return folder.parent
    raise BuildError("no CUDA compiler: nvcc was not found; install the CUDA toolkit of torch's CUDA "
                     f"{torch.version.cuda} or set CUDA_HOME to its folder")


def compiler_version(home: Path) -> tuple[int, int]:
    text = subprocess.run([home / "bin/nvcc", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release (\d+)\.(\d+)", text)
    if found is None:
        raise BuildError(f"{home / 'bin/nvcc'} --version says nothing that can be read; reinstall the CUDA toolkit")
    return int(found[1]), int(found[2])


def known_architectures(home: Path) -> list[int]:
    """Compute capabilities times 10 that the compiler can make code for, ascending."""
    text = subprocess.run([home / "bin/nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=False).stdout
    known = sorted({int(number) for number in re.findall(r"compute_(\d+)\b", text)})
    if not known:
        raise BuildError(f"{home / 'bin/nvcc'} --list-gpu-arch lists nothing; a CUDA toolkit of 11.5 or newer is needed")
    return known


def wanted_architectures(known: Sequence[int], arch: str | None = None) -> list[str]:
    """`8.0;9.0+PTX`, `Ampere;Hopper`, TORCH_CUDA_ARCH_LIST or the visible GPUs -> nvcc's -gencode values. Raises `BuildError`.

    Containers set the variable for torch: what is too old in it is left out with a warning, unless nothing else is there.
    """
    listed = "" if arch else os.environ.get("TORCH_CUDA_ARCH_LIST") or ""
    wanted = _parsed(arch or listed) or [(major * 10 + minor, False) for major, minor in visible_capabilities()]
    if not wanted:
        raise BuildError('no GPU is visible and no architecture is named; use --arch "8.0;9.0" or TORCH_CUDA_ARCH_LIST')
    old = [f"{number / 10}" for number, _ in wanted if number < OLDEST]
    if old and (not listed or len(old) == len(wanted)):
        raise BuildError(f"compute capability {', '.join(old)} is too old: the kernels need 8.0 (Ampere) or newer")
    if old:
        warnings.warn(f"TORCH_CUDA_ARCH_LIST={listed}: {', '.join(old)} left out, the kernels need 8.0 (Ampere) or newer", RuntimeWarning,
                      stacklevel=2)
    values = []
    for number, ptx in wanted:
        if number < OLDEST:
            continue
        if number not in known:  # newer than the compiler: the driver compiles PTX of the nearest older architecture
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
    for part in ";".join(NAMES.get(part, part) for part in re.split(r"[;, ]+", text.strip()) if part).split(";"):
        found = re.fullmatch(r"(\d+)\.(\d)[af]?(\+PTX)?", part)
        if part and found is None:
            raise BuildError(f"architecture {part!r} is not of the form 9.0, 9.0+PTX or Hopper; mend --arch or TORCH_CUDA_ARCH_LIST")
        if found:
            wanted.append((int(found[1]) * 10 + int(found[2]), bool(found[3])))
    return wanted


def visible_capabilities() -> list[tuple[int, int]]:
    if not torch.cuda.is_available():
        return []
    return sorted({torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())})


def cache_root() -> Path:
    """`plugins` in EIDGAN_CACHE, else in the user's cache folder."""
    return Path(os.environ.get("EIDGAN_CACHE") or user_cache_folder()) / "plugins"


def sources(name: str) -> list[Path]:
    """Every file that a plugin is made of, headers included."""
    shared = [path for path in (OPS / "cuda").glob("*") if path.is_file()]
    return sorted([*shared, *(path for path in PLUGINS[name].glob("*") if path.suffix in (".h", ".cpp", ".cu"))])


def source_folder(name: str) -> Path:
    """Where builds of exactly these sources with these flags against this torch and its CUDA lie."""
    key = hashlib.sha256()
    facts = [torch.__version__, str(torch.version.cuda), sys.platform, platform.machine(), *CXX_FLAGS, *NVCC_FLAGS]
    for part in [*facts, *(f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in sources(name))]:
        key.update(part.encode() + b"\0")
    return cache_root() / f"{name}-{key.hexdigest()[:16]}"


def plugin_path(name: str, home: Path, architectures: Sequence[str]) -> Path:
    """Where the build of this compiler for these architectures lies or will lie: .../nvcc13.0-sm_80-sm_90/NAME.so."""
    version = "nvcc" + ".".join(map(str, compiler_version(home)))
    return source_folder(name) / "-".join([version, *(arch.split("code=")[1] for arch in architectures)]) / f"{name}.so"


def built(name: str, capabilities: Sequence[tuple[int, int]]) -> Path | None:
    """A library in the cache that runs on GPUs of all these capabilities, built here or ahead of time; needs no compiler."""
    def runs(target: str, capability: tuple[int, int]) -> bool:
        kind, number = target.split("_")
        if kind == "compute":  # PTX, which the driver compiles for anything newer
            return int(number) <= capability[0] * 10 + capability[1]
        return divmod(int(number), 10) <= capability and int(number) // 10 == capability[0]

    for library in sorted(source_folder(name).glob(f"*/{name}.so")):
        targets = library.parent.name.split("-")[1:]
        if capabilities and all(any(runs(target, one) for target in targets) for one in capabilities):
            return library
    return None


def build(name: str, arch: str | None = None) -> Path:
    """The plugin's shared library, built if it is not there. Raises `BuildError`."""
    if torch.version.cuda is None:
        raise BuildError("this PyTorch is built without CUDA; install a CUDA build of torch")
    home = cuda_home()
    major, minor = compiler_version(home)
    if str(major) != torch.version.cuda.split(".")[0]:
        raise BuildError(f"nvcc in {home} is of CUDA {major}.{minor}, this PyTorch of CUDA {torch.version.cuda}: the first number must be "
                         f"the same; set CUDA_HOME to a toolkit of torch's, or install a torch built for CUDA {major}")
    architectures = wanted_architectures(known_architectures(home), arch)
    library = plugin_path(name, home, architectures)
    if library.exists():
        return library
    ninja = find_ninja()
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with _locked(library.parent / "lock"):
            if not library.exists():
                _compile(name, home, architectures, library, ninja)
    except OSError as error:
        raise BuildError(f"{library.parent}: {error.strerror or error}; set EIDGAN_CACHE to a folder that can be written") from error
    return library


def load(name: str) -> None:
    """Build if needed and bind the plugin's kernels to the registered operators. Raises `BuildError`."""
    visible = visible_capabilities()
    library = built(name, visible) or build(name)
    if visible and not any(built(name, [one]) for one in visible):
        raise BuildError(f"TORCH_CUDA_ARCH_LIST={os.environ.get('TORCH_CUDA_ARCH_LIST')} has nothing that runs on the visible GPUs of "
                         f"{', '.join(f'{major}.{minor}' for major, minor in visible)}; add them, or unset it")
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise BuildError(f"{library} does not load: {str(error).splitlines()[0]}; delete its folder to build it again") from error


def find_ninja() -> str:
    try:
        import ninja
        beside = Path(ninja.BIN_DIR) / "ninja"
        if beside.exists():
            return str(beside)
    except ImportError:
        pass
    found = shutil.which("ninja")
    if found is None:
        raise BuildError("ninja was not found; pip install ninja")
    return found


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """An advisory lock that the system releases when its process ends, so none is left behind. Raises `BuildError`."""
    import fcntl

    with path.open("w") as file:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BuildError(f"{path}: another process has been building for {LOCK_TIMEOUT_S} s; end it and try again") from None
                time.sleep(0.2)
        yield


def _compile(name: str, home: Path, architectures: Sequence[str], library: Path, ninja: str) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        (Path(folder) / "build.ninja").write_text(_ninja_file(name, home, architectures), encoding="utf-8")
        done = subprocess.run([ninja, "-C", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            (library.parent / "failure.log").write_text(done.stdout + done.stderr, encoding="utf-8")
            raise BuildError(_explain(name, done.stdout + done.stderr, library.parent / "failure.log"))
        os.replace(Path(folder) / f"{name}.so", library)


def _ninja_file(name: str, home: Path, architectures: Sequence[str]) -> str:
    root = Path(torch.__file__).parent
    includes = f"-I{OPS} -isystem {root / 'include'} -isystem {root / 'include/torch/csrc/api/include'} -isystem {home / 'include'}"
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    libraries = next((home / folder for folder in ("lib64", "lib") if (home / folder).is_dir()), home / "lib")
    lines = [
        f"cxx = {os.environ.get('CXX') or 'c++'}", f"nvcc = {home / 'bin/nvcc'}",
        "rule cxx", f"  command = $cxx {' '.join(CXX_FLAGS)} {abi} {includes} -c $in -o $out",
        "rule cuda", f"  command = $nvcc {' '.join(NVCC_FLAGS)} {' '.join('-gencode ' + a for a in architectures)} -I{OPS} -c $in -o $out",
        "rule link", (f"  command = $cxx -shared $in -o $out -L{root / 'lib'} -lc10 -lc10_cuda -ltorch_cpu -ltorch_cuda "
                      f"-ltorch -L{libraries} -lcudart"),
    ]
    objects = []
    for path in sources(name):
        rule = {".cpp": "cxx", ".cu": "cuda"}.get(path.suffix)
        if rule:
            objects.append(f"{path.name}.o")
            lines.append(f"build {path.name}.o: {rule} {path}")
    return "\n".join([*lines, f"build {name}.so: link {' '.join(objects)}", f"default {name}.so", ""])


def _explain(name: str, output: str, log: Path) -> str:
    """The first lines in which a compiler complains, and what to try."""
    lines = [line for line in output.splitlines() if re.search(r"error|fatal|not found|cannot find", line, re.IGNORECASE)]
    shown = "\n  ".join((lines or output.splitlines())[:4])
    return (f"plugin {name} did not compile:\n  {shown}\nThe whole output is in {log}. Needed: a C++20 compiler (set CXX), and nvcc of "
            f"torch's CUDA {torch.version.cuda}; python doctor.py shows what was found. --ops ref works without")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m torch_utils.ops.build", description="Build the CUDA plugins ahead of time.")
    parser.add_argument("--arch", metavar="LIST", help='compute capabilities, for example "8.0;9.0" or "9.0+PTX"; default: '
                        "TORCH_CUDA_ARCH_LIST, else the visible GPUs")
    arch = parser.parse_args().arch
    try:
        for name in PLUGINS:
            print(build(name, arch), flush=True)
    except BuildError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
