"""`make gpu-check`, driven by stub commands: order, limits, interruption, records, exit codes."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from benchmarks.gpu_check import findings, needs, parts
from benchmarks.gpu_check.__main__ import main
from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.runner import Part, Runner
from dnnlib.errors import UserError
from torch_utils.ops import build

ROOT = Path(__file__).parents[2]
DTYPES = ["torch.float32", "torch.float16", "torch.bfloat16"]
PASSED, HANGS = "print('done')", "import time; print('working', flush=True); time.sleep(60)"


def nothing(record, output):
    return Findings()


def stub(name, code, limit_s=20, read=nothing, **more):
    return Part(name, "a stub", limit_s, ("{python}", "-c", textwrap.dedent(code)), read, **more)


def check(tmp_path, *stubs):
    """Run parts and return (exit code, rows of the summary)."""
    own = Runner(
        stubs, tmp_path / "2025-01-02-gpu", {"python": sys.executable}, {"device": "a stub"}
    )
    code = own.run()
    return code, json.loads(own.summary.read_text())["parts"]


def outcomes(rows):
    return [row["outcome"] for row in rows]


def alive(process):
    """Whether a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(process, limit_s=20):
    """Whether a killed process ends in time. On a busy machine it lives on after the signal."""
    deadline = time.monotonic() + limit_s
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(process)


def test_parts_run_in_their_order_and_pass(tmp_path):
    order = tmp_path / "order"
    stubs = [stub(name, f"open({str(order)!r}, 'a').write({name!r})") for name in "abc"]
    code, rows = check(tmp_path, *stubs)
    assert (code, outcomes(rows), order.read_text()) == (0, ["passed"] * 3, "abc")
    assert [row["part"] for row in rows] == ["a", "b", "c"] and rows[0]["limit_s"] == 20


@pytest.mark.slow
def test_only_a_real_failure_fails_the_check(tmp_path):
    stubs = (
        stub("absent", PASSED, needs=("a_package_that_is_not",)),
        stub("slow", HANGS, limit_s=1),
        stub("refused", "exit(7)", read=lambda *_: Findings(refused="not on this device")),
        stub("good", PASSED),
    )
    code, rows = check(tmp_path, *stubs)
    assert (code, outcomes(rows)) == (0, ["missing", "cut off", "missing", "passed"])
    assert rows[0]["notes"] == ["package a_package_that_is_not"]
    assert rows[2]["notes"] == ["not on this device"]


def test_a_failure_fails_the_check_and_the_next_part_runs(tmp_path):
    bad = stub("bad", "print('one'); print('why'); exit(3)")
    code, rows = check(tmp_path, bad, stub("last", PASSED))
    assert (code, outcomes(rows)) == (1, ["failed", "passed"])
    assert rows[0]["failures"] == ["exit code 3: one | why"]


def test_findings_of_a_command_that_ends_well_count(tmp_path):
    code, rows = check(tmp_path, stub("bad", PASSED, read=lambda *_: Findings(failures=("a row",))))
    assert (code, outcomes(rows)) == (1, ["failed"])


GRANDCHILD = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    open({path!r}, 'w').write(str(child.pid))
    print('wrong', flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_limit_ends_the_whole_process_group_and_what_was_seen_counts(tmp_path):
    def read(record, output):
        return Findings(failures=tuple(line.strip() for line in output if "wrong" in line))

    code, rows = check(
        tmp_path, stub("slow", GRANDCHILD.format(path=str(tmp_path / "pid")), limit_s=3, read=read)
    )
    assert ends(int((tmp_path / "pid").read_text()))
    assert (code, outcomes(rows), rows[0]["failures"]) == (1, ["failed"], ["wrong"])


def test_everything_is_written_after_every_part(tmp_path):
    summary = tmp_path / "2025-01-02-gpu-gpu-check.json"
    look = f"""
        import json
        print([row['outcome'] for row in json.load(open({str(summary)!r}))['parts']])
    """
    write = "import json; json.dump(dict(rows=[1]), open('{record}', 'w'))"
    seen = []

    def read(record, output):
        seen.append((record, *output))
        return Findings()

    code, _ = check(tmp_path, stub("first", write, read=read), stub("second", look, read=read))
    assert code == 0 and seen == [({"rows": [1]},), (None, "['passed', 'running']\n")]
    earlier = tmp_path / "2025-01-02-gpu-second.json"
    earlier.write_text('{"rows": [2]}')
    check(tmp_path, stub("second", PASSED, read=read))
    assert seen[-1][0] is None  # the record of an earlier check is not read


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_child_and_leaves_the_summary(tmp_path, number):
    codes = {
        "a": PASSED,
        "b": textwrap.dedent(GRANDCHILD).format(path=str(tmp_path / "pid")),
        "c": PASSED,
    }
    program = f"""
        import sys
        from pathlib import Path
        from benchmarks.gpu_check.findings import of_tests
        from benchmarks.gpu_check.runner import Part, Runner
        parts = [
            Part(name, "", 20, (sys.executable, "-c", code), of_tests)
            for name, code in {codes!r}.items()
        ]
        sys.exit(Runner(parts, Path({str(tmp_path / "2025-01-02-gpu")!r}), {{}}, {{}}).run())
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, number)
    assert process.wait() == 128 + number
    rows = json.loads((tmp_path / "2025-01-02-gpu-gpu-check.json").read_text())["parts"]
    assert outcomes(rows) == ["passed", "interrupted", "not run"]
    assert ends(int((tmp_path / "pid").read_text()))


def test_the_real_parts_add_up_to_eight_minutes_and_begin_with_the_commands():
    names = "commands tests forward training operators recipe compile memcheck racecheck".split()
    assert [part.name for part in parts.PARTS] == names
    assert sum(part.limit_s for part in parts.PARTS) <= parts.BUDGET_S == 480
    words = {"python": "p", "device": "d", "record": "r", "sanitizer": "s"}
    for part in parts.PARTS:  # every name in braces is replaced
        assert all(word.format(**words) for word in part.command)


def test_parts_are_chosen_by_name():
    assert [part.name for part in parts.choose("racecheck,tests")] == ["tests", "racecheck"]
    assert parts.choose(None) == parts.PARTS
    with pytest.raises(UserError, match="no part 'test'; the parts are commands, tests"):
        parts.choose("test")


def test_the_arguments_of_the_benchmarks_are_theirs():
    """Each benchmark accepts its arguments; else the error would only show on a GPU."""
    for part in parts.PARTS:
        if part.read is findings.of_benchmark:
            flags = [word.format(device="cpu", record="r.json") for word in part.command[3:]]
            context = importlib.import_module(part.command[2]).main.make_context("x", flags)
            assert context.params["dtypes"] == "bf16"


def test_the_page_says_what_runs():
    page = (ROOT / "docs" / "gpu_check.md").read_text(encoding="utf-8")
    assert f"```\n{parts.listing()}\n```" in page
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == parts.listing() + "\n"


def test_a_machine_without_a_gpu_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--results", str(tmp_path)])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main() == 1
    errors = capsys.readouterr().err
    assert (
        errors.count("\n") == 1 and "needs a CUDA device" in errors and not list(tmp_path.iterdir())
    )


def test_all_parts_are_handed_over(tmp_path, monkeypatch):
    """With a mocked GPU, and an architecture list that would take minutes to compile for."""
    ran = []
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--results", str(tmp_path)])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: (9, 0))
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0;10.0;12.0")
    monkeypatch.setenv("EIDGAN_OPS", "ref")

    def execute(self, part, record):
        ran.append((part.name, record.name))
        return 0, []

    monkeypatch.setattr(Runner, "_execute", execute)
    assert main() == 0
    assert [name for name, _ in ran][:2] == ["commands", "tests"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-nvidia-h100-80gb-hbm3-commands\.json", ran[0][1])
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "9.0" and "EIDGAN_OPS" not in os.environ


def test_gpu_tests_are_found_by_their_mark():
    files = parts.gpu_test_files()
    assert {
        "tests/torch_utils/test_ops_gpu.py",
        "tests/training/test_training_gpu.py",
        "tests/networks/test_networks_gpu.py",
    } <= set(files)
    assert "tests/torch_utils/test_ops_formulas.py" not in files


PYTEST = """
tests/a.py::test_one[(1, 2)-dtype0] PASSED      [ 25%]
tests/a.py::test_two[a b] FAILED                [ 50%]
tests/a.py::test_three SKIPPED (torch.compile needs Python.h for Triton (python3-dev)) [ 75%]
tests/a.py::test_four ERROR                     [100%]
tests/a.py::test_five
"""


def test_what_tools_print_is_read():
    found = findings.of_tests(None, PYTEST.splitlines(keepends=True))
    assert found.failures == ("a.py::test_two[a b] failed", "a.py::test_four error")
    assert found.notes == (
        "1 tests passed",
        "1 skipped: torch.compile needs Python.h for Triton (python3-dev)",
    )


def test_rows_that_could_not_run_are_told_apart():
    labels = {"generator": "eidgan", "resolution": 256, "batch": 8, "dtype": "bf16"}

    def row(variant, found):
        return labels | {"variant": variant} | found

    record = {
        "rows": [
            row("eager", {"ms": 1.0}),
            row("ours", {"problem": "RuntimeError: launch"}),
            row("eager", {"problem": "out of memory"}),
            row("compile", {"problem": "RuntimeError: no compiler"}),
        ]
    }
    found = findings.of_benchmark(record, [])
    assert found.failures == ("eidgan 256 8 bf16 ours: RuntimeError: launch",)
    assert found.notes == (
        "4 rows",
        "eidgan 256 8 bf16 eager: out of memory",
        "eidgan 256 8 bf16 compile: RuntimeError: no compiler",
    )
    assert findings.of_benchmark(None, []) == Findings(notes=("0 rows",))


def test_tools_for_the_kernels_are_named(monkeypatch):
    monkeypatch.setattr(build, "built", lambda name, visible: None)
    monkeypatch.setattr(build, "cuda_home", lambda: Path("/cuda"))
    monkeypatch.setattr(build, "compiler_version", lambda home: (13, 0))
    monkeypatch.setattr(build, "find_ninja", lambda: "ninja")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setenv("CXX", sys.executable)
    assert needs.lacking([needs.KERNELS]) == []
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert needs.lacking([needs.KERNELS]) == ["a C++ compiler (c++ or CXX)"]
    monkeypatch.setattr("torch.version.cuda", "12.8")
    assert needs.lacking([needs.KERNELS]) == ["nvcc of CUDA 12.8; here it is of 13.0"]
    monkeypatch.setattr(build, "cuda_home", lambda: (_ for _ in ()).throw(build.BuildError("none")))
    assert needs.lacking([needs.KERNELS]) == ["none"]
    monkeypatch.setattr(build, "built", lambda name, visible: Path("here"))
    assert needs.lacking([needs.KERNELS]) == []


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(needs.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("torch_utils.ops.build.cuda_home", lambda: Path("/nowhere"))
    monkeypatch.setattr(
        needs.importlib.util, "find_spec", lambda name: None if name == "PIL" else name
    )
    assert needs.lacking(["PIL", "json", needs.SANITIZER, needs.TRITON]) == [
        "package pillow",
        "compute-sanitizer (of the CUDA toolkit)",
        "a C compiler for Triton (gcc, clang or CC)",
    ]
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(needs.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert needs.triton_lacks() == "Python.h for Triton (python3-dev)"


def test_the_runner_gives_the_signals_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    check(tmp_path, stub("a", PASSED))
    assert signal.getsignal(signal.SIGTERM) is before
