"""Say what this machine has, for bug reports: compiler, CUDA, torch, architectures, plugins, cache folder, free disk."""

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
    help="Build and load the CUDA plugins now, and say how that went.",
)
def main(build_now: bool) -> None:
    """Print what a bug report needs: versions, GPUs, compilers, the state of the CUDA plugins, folders, free disk.

    Changes nothing unless --build is given. Exit code 1: PyTorch cannot be imported, or --build failed.
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
    """One section; what it cannot find out is said in it. False: something that must work does not."""
    try:
        for name, value in lines():
            click.echo(f"  {name:<18}" + value.replace("\n", "\n" + " " * 20))
    except ImportError as error:
        click.echo(f"  {'not there':<18}{error}; run make setup")
        return False
    except RuntimeError as error:  # BuildError, or a driver that fails
        click.echo(f"  {'FAILED':<18}{error}")
        return False
    return True


def _first_line(*command: str) -> str:
    """What a program says first, or that it is missing."""
    path = shutil.which(command[0])
    if path is None:
        return f"{command[0]}: not found"
    done = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)
    return (
        f"{(done.stdout or done.stderr).strip().splitlines()[0]} ({path})"
        if done.stdout or done.stderr
        else f"({path})"
    )


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
        f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, auto precision {resolve(torch.device('cpu'))}",
    )
    if not torch.cuda.is_available():
        yield "GPU", "none that PyTorch can use"
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(i)
        yield (
            f"GPU {i}",
            f"{facts.name}, compute capability {facts.major}.{facts.minor}, {facts.total_memory / 2**30:.0f} GiB",
        )
    yield "compiled for", " ".join(torch.cuda.get_arch_list()) or "CPUs only"


def _compilers() -> Iterator[tuple[str, str]]:
    from torch_utils.ops import build

    def said(ask: Callable[[], object]) -> str:
        try:
            return str(ask())
        except build.BuildError as error:
            return str(error)

    yield "C++", _first_line(os.environ.get("CXX") or "c++", "--version")
    yield "ninja", said(build.find_ninja)
    yield (
        "nvcc",
        said(
            lambda: (
                f"{'.'.join(map(str, build.compiler_version(build.cuda_home())))} ({build.cuda_home()})"
            )
        ),
    )
    yield (
        "nvcc knows",
        said(
            lambda: " ".join(
                f"{n // 10}.{n % 10}" for n in build.known_architectures(build.cuda_home())
            )
        ),
    )
    yield (
        "would build",
        said(
            lambda: " ".join(
                build.wanted_architectures(build.known_architectures(build.cuda_home()))
            )
        ),
    )
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
        found = sorted(path.parent.name for path in build.source_folder(name).glob(f"*/{name}.so"))
        failed = sorted(build.source_folder(name).glob("*/failure.log"))
        yield (
            name,
            ", ".join(found)
            or (
                f"its last build failed: {failed[-1]}"
                if failed
                else "not built yet; happens on first use"
            ),
        )


def _folders() -> Iterator[tuple[str, str]]:
    import tempfile

    from torch_utils.ops.build import cache_root

    for name, folder in (
        ("plugins", cache_root()),
        ("repository", ROOT),
        ("temporary", Path(tempfile.gettempdir())),
    ):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        yield name, f"{folder}, {shutil.disk_usage(there).free / 2**30:.1f} GiB free"


if __name__ == "__main__":
    main()
