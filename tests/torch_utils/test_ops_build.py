"""The build of the CUDA plugins without a GPU, and what `--ops` does if a build fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from dnnlib.errors import UserError
from torch_utils.ops import backend, build
from torch_utils.ops.backend import check_backend, registered

ROOT = Path(__file__).parents[2]


def has_compiler() -> str | None:
    try:
        build.cuda_home()
        build.find_ninja()
    except build.BuildError as error:
        return str(error)
    if shutil.which(os.environ.get("CXX") or "c++") is None:
        return "no C++ compiler"
    return None if torch.version.cuda else "this PyTorch is built without CUDA"


@pytest.fixture
def fresh(monkeypatch):
    """No plugin tried yet, no flag, no variable."""
    monkeypatch.setattr(backend, "_state", backend._State())
    monkeypatch.delenv("EIDGAN_OPS", raising=False)
    return monkeypatch


@pytest.mark.slow
@pytest.mark.skipif(has_compiler() is not None, reason=has_compiler() or "")
def test_every_plugin_compiles_links_and_binds_without_a_gpu():
    """In a new process, because loading binds CUDA kernels until the process ends.

    The plugins stay in the user's cache between runs.
    """
    code = (
        "import torch\n"
        "from torch_utils.ops import biline, build, modulated_linear\n"
        "for name in build.PLUGINS:\n"
        "    build.load(name)\n"
        "for op in ('modulated_weights', 'linear_act', 'act_backward', 'biline_decode',\n"
        "           'biline_decode_backward', 'biline_render'):\n"
        "    assert torch._C._dispatch_has_kernel_for_dispatch_key('eidgan::' + op, 'CUDA'), op\n"
        "assert not torch.cuda.is_initialized()\n"
        "print('BOUND')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"TORCH_CUDA_ARCH_LIST": "8.0"},
    )
    assert done.returncode == 0 and "BOUND" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize(
    "text,values",
    [
        ("8.0;9.0", ["arch=compute_80,code=sm_80", "arch=compute_90,code=sm_90"]),
        ("9.0+PTX", ["arch=compute_90,code=compute_90", "arch=compute_90,code=sm_90"]),
        (
            "Ada;Hopper",
            [
                "arch=compute_89,code=compute_89",
                "arch=compute_89,code=sm_89",
                "arch=compute_90,code=compute_90",
                "arch=compute_90,code=sm_90",
            ],
        ),
        (
            "Ampere",
            [
                "arch=compute_80,code=sm_80",
                "arch=compute_86,code=compute_86",
                "arch=compute_86,code=sm_86",
            ],
        ),
        # Newer than the compiler: PTX of the newest architecture that the compiler knows.
        ("10.3", ["arch=compute_100,code=compute_100"]),
    ],
)
def test_architectures(text, values):
    assert build.wanted_architectures([80, 86, 89, 90, 100], text) == values


@pytest.mark.parametrize(
    "text,word",
    [
        ("7.5", "too old"),
        ("8.0;7.5", "7.5 is too old"),
        ("Volta", "7.0 is too old"),
        ("ninety", "not of the form"),
    ],
)
def test_architectures_that_cannot_be(text, word):
    with pytest.raises(build.BuildError, match=word):
        build.wanted_architectures([80, 90], text)


def test_torch_cuda_arch_list_is_respected(monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.6")
    assert build.wanted_architectures([80, 86, 90]) == ["arch=compute_86,code=sm_86"]


@pytest.mark.parametrize("text", ["7.0 8.0 9.0+PTX", "Volta;8.0;Hopper"])
def test_what_is_too_old_in_the_variable_is_left_out(monkeypatch, text):
    """Containers set it for torch, which may be older than the kernels can be."""
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", text)
    with pytest.warns(RuntimeWarning, match="7.0 left out"):
        values = build.wanted_architectures([80, 90])
    assert values == [
        "arch=compute_80,code=sm_80",
        "arch=compute_90,code=compute_90",
        "arch=compute_90,code=sm_90",
    ]
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "7.0;7.5")
    with pytest.raises(build.BuildError, match="7.0, 7.5 is too old"):
        build.wanted_architectures([80, 90])


def test_a_variable_without_the_visible_gpu_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    monkeypatch.setenv("EIDGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "visible_capabilities", lambda: [(8, 6)])
    monkeypatch.setattr(build, "build", lambda name: tmp_path / "biline.so")
    with pytest.raises(build.BuildError, match="TORCH_CUDA_ARCH_LIST=9.0 has nothing .* 8.6"):
        build.load("biline")


def test_a_compiler_of_another_cuda_is_named_with_the_remedy(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    nvcc = tmp_path / "bin/nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(
        build.BuildError, match=r"of CUDA 12\.4, this PyTorch of CUDA 13\.0.*set CUDA_HOME"
    ):
        build.build("biline", "8.0")


def test_key_changes_with_what_goes_in(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "compiler_version", lambda home: (13, 0))
    one, two = (build.wanted_architectures([80, 90], arch) for arch in ("8.0", "8.0;9.0"))
    first = build.plugin_path("biline", tmp_path, one)
    assert (
        first
        == build.plugin_path("biline", tmp_path, one)
        != build.plugin_path("biline", tmp_path, two)
    )
    monkeypatch.setattr(build, "compiler_version", lambda home: (13, 1))
    assert first != build.plugin_path("biline", tmp_path, one)
    monkeypatch.setattr(build, "compiler_version", lambda home: (13, 0))
    monkeypatch.setattr(build, "NVCC_FLAGS", [*build.NVCC_FLAGS, "-g"])
    assert first != build.plugin_path("biline", tmp_path, one)


@pytest.mark.parametrize(
    "targets,capability,runs",
    [
        ("sm_80-sm_90", (9, 0), True),
        ("sm_80", (8, 6), True),
        ("sm_86", (8, 0), False),
        ("sm_90", (10, 0), False),
        ("compute_90-sm_80", (12, 1), True),
        ("compute_90", (8, 9), False),
        ("sm_120", (12, 0), True),
    ],
)
def test_what_was_built_ahead_is_found_without_a_compiler(
    monkeypatch, tmp_path, targets, capability, runs
):
    monkeypatch.setenv("EIDGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "cuda_home", lambda: pytest.fail("looked for a compiler"))
    library = build.source_folder("biline") / f"nvcc13.0-{targets}" / "biline.so"
    library.parent.mkdir(parents=True)
    library.touch()
    assert build.built("biline", [capability]) == (library if runs else None)
    assert build.built("biline", [capability, (5, 0)]) is None and build.built("biline", []) is None


@pytest.mark.slow
def test_a_failed_compilation_is_told_in_a_few_lines(tmp_path):
    """A ninja whose compiler fails; torch asks for its version first."""
    ninja = tmp_path / "bin" / "ninja"
    ninja.parent.mkdir()
    ninja.write_text(
        "#!/bin/sh\n[ $1 = --version ] && exit 0\n"
        "echo 'x.cu(3): error: expected a ;'\necho noise\nexit 1\n"
    )
    ninja.chmod(0o755)
    library = tmp_path / "cache" / "biline.so"
    library.parent.mkdir()
    with pytest.raises(build.BuildError) as caught:
        build._compile("biline", tmp_path, ["arch=compute_90,code=sm_90"], library, str(ninja))
    text = str(caught.value)
    assert "x.cu(3): error: expected a ;" in text and "noise" not in text and "--ops ref" in text
    assert "noise" in (library.parent / "failure.log").read_text()
    assert [path.name for path in library.parent.iterdir()] == ["failure.log"]


def test_the_lock_gives_up_and_names_itself(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "LOCK_TIMEOUT_S", 0)
    monkeypatch.setattr(build, "cuda_home", lambda: tmp_path)
    monkeypatch.setattr(build, "compiler_version", lambda home: (13, 0))
    monkeypatch.setattr(build, "known_architectures", lambda home: [80, 90])
    monkeypatch.setattr(build, "find_ninja", lambda: "ninja")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("EIDGAN_CACHE", str(tmp_path))
    lock = build.plugin_path("biline", tmp_path, ["arch=compute_80,code=sm_80"]).parent / "lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(build.BuildError, match="lock: another process"):
        build.build("biline", "8.0")


def no_plugin(name):
    raise build.BuildError("no CUDA compiler: nvcc was not found")


def test_auto_falls_back_once_and_loudly(fresh):
    fresh.setattr(build, "load", no_plugin)
    with pytest.warns(RuntimeWarning, match="nvcc was not found"):
        assert not registered("biline", "cuda", cpu=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not registered("biline", "cuda", cpu=False)
        assert not registered("modulated_linear", "cuda", cpu=False)


def test_cuda_never_falls_back(fresh):
    with pytest.raises(UserError, match="--ops cuda"):
        fresh.setattr(torch.cuda, "is_available", lambda: False)
        check_backend("cuda")
    fresh.setattr(torch.cuda, "is_available", lambda: True)
    fresh.setattr(build, "load", no_plugin)
    with pytest.raises(UserError, match="nvcc was not found"):
        check_backend("cuda")


def test_the_variable_decides_where_the_flag_does_not(fresh):
    fresh.setenv("EIDGAN_OPS", "ref")
    assert check_backend("auto") == "plain PyTorch (ref)" and not registered(
        "biline", "cpu", cpu=True
    )
    fresh.setenv("EIDGAN_OPS", "fast")
    with pytest.raises(UserError, match="EIDGAN_OPS=fast"):
        check_backend("auto")
    assert check_backend("ref") == "plain PyTorch (ref)"


def test_what_runs_is_said_and_loaded_at_the_start(fresh):
    loaded: list[str] = []
    fresh.setattr(build, "load", loaded.append)
    assert check_backend("auto") == check_backend("auto", "mps") == "plain PyTorch" and not loaded
    assert check_backend("auto", "cuda:0") == "CUDA kernels" and loaded == list(build.PLUGINS)
    assert check_backend("ref", "cuda") == "plain PyTorch (ref)"


def test_the_reason_is_said_where_nothing_could_be_loaded(fresh):
    fresh.setattr(build, "load", no_plugin)
    with pytest.warns(RuntimeWarning, match="nvcc was not found"):
        said = check_backend("auto", torch.device("cuda", 0))
    assert said == "plain PyTorch (modulated_linear, biline: no CUDA compiler: nvcc was not found)"


def test_no_compiler_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setattr(build.Path, "exists", lambda self: False)
    with pytest.raises(build.BuildError, match="set CUDA_HOME"):
        build.cuda_home()
