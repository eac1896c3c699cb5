"""Print versions, GPUs, compilers, plugins and folders of this machine for a bug report."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from dnnlib.version import VERSION

ROOT = Path(__file__).parent
VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CXX", "TORCH_CUDA_ARCH_LIST", "EIDGAN_OPS", "EIDGAN_CACHE")


@click.command(context_settings={"max_content_width": 120})
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--build",
    "build_now",
    is_flag=True,
    help="Build and load the CUDA plugins now, and print the result.",
)
def main(build_now: bool) -> None:
    """Print what a bug report needs: versions, GPUs, compilers, the state of the CUDA plugins,
    folders and free disk space.

    Without --build, nothing is changed. The exit code is 1 if PyTorch cannot be imported or a line
    says FAILED, as it does if --build fails.
    """
    healthy = True
    for title, lines in (
        ("system", _system),
        ("torch", _torch),
        ("compilers", _compilers),
        ("plugins", lambda: _plugins(build_now)),
        ("folders", _folders),
    ):
        click.echo(title)
        healthy &= _print(lines)
    sys.exit(0 if healthy else 1)


def _print(lines: Callable[[], Iterator[tuple[str, str]]]) -> bool:
    """Print one section, with its error if it has one. Returns False if a line says FAILED."""
    healthy = True
    try:
        for name, value in lines():
            healthy &= not value.startswith("FAILED")
            click.echo(f"  {name:<18}" + value.replace("\n", "\n" + " " * 20))
    except ImportError as error:
        click.echo(f"  {'not there':<18}{error}; run make setup")
        return False
    except (RuntimeError, OSError) as error:  # a BuildError, the GPU driver's, a locked folder's
        click.echo(f"  {'FAILED':<18}{error}")
        return False
    return healthy


def _first_line(*command: str) -> str:
    """The first line that a program prints, with its path; or a note that it does not run."""
    path = shutil.which(command[0])
    if path is None:
        return f"{command[0]}: not found"
    try:
        done = subprocess.run(
            [path, *command[1:]], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        return f"FAILED: {path}: {error.strerror}"
    printed = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return " ".join([*printed[:1], f"({path})"])


def _system() -> Iterator[tuple[str, str]]:
    yield "os", platform.platform()
    yield "python", f"{platform.python_version()} ({sys.executable})"
    commit = _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty").split(" (")[0]
    yield "eidgan", f"{VERSION}, commit {commit}"


def _torch() -> Iterator[tuple[str, str]]:
    import torch

    from torch_utils.precision import resolve

    yield (
        "torch",
        f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
    )
    yield (
        "CPU",
        f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, "
        f"auto precision {resolve(torch.device('cpu'))}",
    )
    if not torch.cuda.is_available():
        yield "GPU", "none that PyTorch can use"
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu = torch.cuda.get_device_properties(i)
        yield (
            f"GPU {i}",
            f"{gpu.name}, compute capability {gpu.major}.{gpu.minor}, "
            f"{gpu.total_memory / 2**30:.0f} GiB",
        )
    yield "compiled for", " ".join(torch.cuda.get_arch_list()) or "CPUs only"


def _compilers() -> Iterator[tuple[str, str]]:
    from torch_utils.ops import build

    def result(query: Callable[[], object]) -> str:
        try:
            return str(query())
        except build.BuildError as error:
            return str(error)

    def compiler() -> str:
        version = ".".join(map(str, build.compiler_version(build.cuda_home())))
        return f"{version} ({build.cuda_home()})"

    def known() -> str:
        numbers = build.known_architectures(build.cuda_home())
        return " ".join(f"{number // 10}.{number % 10}" for number in numbers)

    def wanted() -> str:
        return " ".join(build.wanted_architectures(build.known_architectures(build.cuda_home())))

    yield "C++", _first_line(os.environ.get("CXX") or "c++", "--version")
    yield "ninja", result(build.find_ninja)
    yield "nvcc", result(compiler)
    yield "nvcc knows", result(known)
    yield "would build", result(wanted)
    yield (
        "variables",
        ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name))
        or "none",
    )


def _plugins(build_now: bool) -> Iterator[tuple[str, str]]:
    from torch_utils.ops import build

    for name in build.PLUGINS:
        if build_now:
            build.load(name)
            yield name, "built, loaded"
            continue
        built = sorted(path.parent.name for path in build.source_folder(name).glob(f"*/{name}.so"))
        failed = sorted(build.source_folder(name).glob("*/failure.log"))
        if built:
            yield name, ", ".join(built)
        elif failed:
            yield name, f"its last build failed: {failed[-1]}"
        else:
            yield name, "not built yet; happens on first use"


def _folders() -> Iterator[tuple[str, str]]:
    import tempfile

    from torch_utils.ops.build import cache_root

    for name, folder in (
        ("plugins", cache_root()),
        ("repository", ROOT),
        ("temporary", Path(tempfile.gettempdir())),
    ):
        try:
            existing = next(path for path in (folder, *folder.parents) if path.exists())
            yield name, f"{folder}, {shutil.disk_usage(existing).free / 2**30:.1f} GiB free"
        except OSError as error:
            yield name, f"FAILED: {folder}: {error.strerror}"


if __name__ == "__main__":
    main()
